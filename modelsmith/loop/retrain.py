"""The training of a specialist repeated on an observer's machine, from the rows that its training statement names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelsmith.artifacts.store import Store
from modelsmith.governance.states import SpecialistHistory
from modelsmith.loop.engines import Target
from modelsmith.loop.evals import BASE, target_of
from modelsmith.loop.recipe import Recipe, last_trained, run_stages, stage_folder
from modelsmith.loop.training import ROWS_FILE, seal_adapter
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.catalog import CLUSTER_DEFAULTS
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.training import Method, Stage, stages_of, training_digest
from modelsmith.training.rows import ROW_OF, read_rows, rows_digest, write_rows


def require_trained(history: SpecialistHistory) -> None:
    """Raise InvalidInput (``not-trained``) of an export, which was made from a specialist and not trained."""
    if history.is_export:
        raise InvalidInput(
            "not-trained",
            f"{history.specialist} is an export: its training is that of the specialist that it was made from",
            "Observe that one with --retrain, and this one without; `modelsmith lineage` names it.",
            specialist=history.specialist,
        )


def rows_at_hand(
    workspace: Workspace, history: SpecialistHistory, training: TrainingFacts, rows_path: Path | None
) -> Path:
    """A file of exactly the rows that the training statement names: the given one, else where this clone trained.

    Of a training of several stages it is a folder, with the rows of each where an iteration's folder has them.

    Raises:
        InvalidInput: ``rows-missing`` when they are not at hand, ``other-rows`` when what is given is something else;
            as `read_rows`.
    """
    iteration = workspace.cluster_folder(history.cluster) / "iterations" / f"{history.records[0].iteration:03d}"
    path = rows_path or (iteration if training.stages else iteration / ROWS_FILE)
    if rows_path is None and not path.exists():
        raise _missing(history, training)
    if training.stages and path.is_file():
        raise InvalidInput(
            "other-rows",
            f"{path.name} is one file, and {history.specialist} was trained in {len(training.stages)} stages",
            "Name the folder of the iteration that trained it, which holds the rows of each.",
            rows=training.rows_digest,
        )
    for _, file, method, due in _files(path, training):
        digest_found = rows_digest(read_rows(file, ROW_OF[method])) if rows_path is not None or file.is_file() else None
        if digest_found == due:
            continue
        if rows_path is None:
            raise _missing(history, training)
        raise InvalidInput(
            "other-rows",
            f"{rows_path.name} holds other rows than those that {history.specialist} was trained on",
            f"Bring the rows with the digest {due}. If whoever trained it has none, it was trained on "
            "something else than it says.",
            rows=due,
            found=digest_found,
        )
    return path


def _files(path: Path, training: TrainingFacts) -> Iterator[tuple[int, Path, Method, str]]:
    """Each stage that was trained: its number, the file of its rows in what `rows_at_hand` says, method and digest."""
    if not training.stages:
        yield 1, path, training.method, training.rows_digest
    for number, stage in enumerate(training.stages, start=1):
        if stage.rows_digest:
            yield number, stage_folder(path, number) / ROWS_FILE, stage.method, stage.rows_digest


def _missing(history: SpecialistHistory, training: TrainingFacts) -> InvalidInput:
    iteration = f".git/modelsmith/{history.cluster}/iterations/{history.records[0].iteration:03d}"
    kind, where = ("folder", iteration) if training.stages else ("file", f"{iteration}/{ROWS_FILE}")
    return InvalidInput(
        "rows-missing",
        f"The {training.rows} rows that {history.specialist} was trained on are not in this clone",
        f"They lie in {where} of the clone that trained it: copy that {kind} here, and name it with --rows. It is "
        f"taken only if its digest is {training.rows_digest}.",
        specialist=history.specialist,
        rows=training.rows_digest,
    )


def train_again(
    workspace: Workspace, main: GovernedState, history: SpecialistHistory, training: TrainingFacts, rows: Path
) -> str:
    """Train from the rows as the specialist was, and keep what comes of it in the store.

    Args:
        workspace: Where job and artifact are made; interrupted, the same call goes on.
        main: Main, which asks what the specialist's evidence answered.
        history: Whose training it is.
        training: How it was trained.
        rows: File of its rows, as `rows_at_hand` found it.

    Returns:
        Artifact id of what came of it.

    Raises:
        InvalidInput: ``unknown-training`` when no cluster file on main has these settings; ``weights-missing`` of what
            training went on from.
        InfrastructureFailure: the worker failed for good.
    """
    cluster = load_cluster(main.tree, history.cluster)
    first = training.stages[0].seed if training.stages else training.seed
    stated = _settings(workspace, main, history, training)
    moved = first - stated[0].seed
    stages = [stage.model_copy(update={"seed": (stage.seed + moved) % 2**32}) for stage in stated]
    artifact = None if training.parent == BASE else main.histories.find(training.parent).artifact
    parent = target_of(workspace, cluster, training.parent, artifact)
    folder = workspace.cluster_folder(history.cluster) / "retrained"
    files = {number: (file, method) for number, file, method, _ in _files(rows, training)}
    for number in range(1, len(stages) + 1):
        file, method = files.get(number, (None, None))
        training_rows = read_rows(file, ROW_OF[method]) if file and method else ()
        write_rows(stage_folder(folder, number) / ROWS_FILE, training_rows)
    recipe = Recipe(workspace, cluster, load_eval_set(main.tree, cluster.eval_set))
    trained = last_trained(run_stages(recipe, folder, stages, parent, rows=_given_rows))
    assert trained, "main takes no training of which every stage was skipped"
    outcome = trained[1]
    sealed = folder / "artifact"
    sealed_id = seal_adapter(outcome.adapter, sealed, cluster.base_model)
    Store(workspace.store(cluster.store)).put(sealed, sealed_id)
    return sealed_id


def _given_rows(_: Recipe, folder: Path, stage: Stage, __: Target) -> tuple[Frozen, ...]:
    return read_rows(folder / ROWS_FILE, ROW_OF[stage.method])


def _settings(
    workspace: Workspace, main: GovernedState, history: SpecialistHistory, training: TrainingFacts
) -> tuple[Stage, ...]:
    """The settings that the training statement names by digest: the cluster's today, else the last that it had."""
    files = (f"clusters/{history.cluster}/cluster.yaml", CLUSTER_DEFAULTS)
    log = workspace.git.text("log", "--first-parent", "--format=%H", main.tree.commit, "--", *files)
    for commit in (main.tree.commit, *log.split()):
        try:
            stages = load_cluster(workspace.revision(commit), history.cluster).training
        except InvalidInput:
            continue
        if training_digest(stages) == training.hyperparameters:
            return stages_of(stages)[: len(training.stages) or None]
    raise InvalidInput(
        "unknown-training",
        f"No cluster.yaml of main has the settings by which {history.specialist} says that it was trained",
        "Compare with a clone that verifies: such a candidate is refused by the check `training`.",
        specialist=history.specialist,
    )
