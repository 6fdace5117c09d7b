"""The training of a specialist repeated on an observer's machine, from the rows that its training statement names."""

from __future__ import annotations

from pathlib import Path

from modelsmith.artifacts.store import Store
from modelsmith.governance.states import SpecialistHistory
from modelsmith.loop.evals import BASE, target_of
from modelsmith.loop.training import JOB_FOLDER, ROWS_FILE, seal_adapter, train_in
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.catalog import CLUSTER_DEFAULTS
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.training import Stage, stages_of, training_digest
from modelsmith.schema.training_row import TrainingRow
from modelsmith.training.job import Inputs
from modelsmith.training.rows import read_rows, rows_digest, write_rows


def require_trained(history: SpecialistHistory) -> None:
    """Raise InvalidInput (``not-trained``) of an export, which was made from a specialist and not trained."""
    if history.is_export:
        raise InvalidInput(
            "not-trained",
            f"{history.specialist} is an export: its training is that of the specialist that it was made from",
            "Observe that one with --retrain, and this one without; `modelsmith lineage` names it.",
            specialist=history.specialist,
        )


def rows_at_hand(workspace: Workspace, history: SpecialistHistory, training: TrainingFacts, given: Path | None) -> Path:
    """A file of exactly the rows that the training statement names: the given one, else where this clone trained.

    Raises:
        InvalidInput: ``rows-missing`` when they are not at hand, ``other-rows`` when what is given is something else;
            as `read_rows`.
    """
    kept = workspace.cluster_folder(history.cluster) / "iterations" / f"{history.records[0].iteration:03d}" / ROWS_FILE
    path = given or kept
    if given is None and not kept.is_file():
        raise _missing(history, training)
    found = rows_digest(read_rows(path, TrainingRow))
    if found == training.rows_digest:
        return path
    if given is None:
        raise _missing(history, training)
    raise InvalidInput(
        "other-rows",
        f"{given.name} holds other rows than those that {history.specialist} was trained on",
        f"Bring the rows with the digest {training.rows_digest}. If whoever trained it has none, it was trained on "
        "something else than it says.",
        rows=training.rows_digest,
        found=found,
    )


def _missing(history: SpecialistHistory, training: TrainingFacts) -> InvalidInput:
    where = f".git/modelsmith/{history.cluster}/iterations/{history.records[0].iteration:03d}/{ROWS_FILE}"
    return InvalidInput(
        "rows-missing",
        f"The {training.rows} rows that {history.specialist} was trained on are not in this clone",
        f"They lie in {where} of the clone that trained it: copy that file here, and name it with --rows. It is taken "
        f"only if its digest is {training.rows_digest}.",
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
    settings = _settings(workspace, main, history, training).model_copy(update={"seed": training.seed})
    artifact = None if training.parent == BASE else main.histories.find(training.parent).artifact
    parent = target_of(workspace, cluster, training.parent, artifact)
    folder = workspace.cluster_folder(history.cluster) / "retrained"
    own = folder / ROWS_FILE
    write_rows(own, read_rows(rows, TrainingRow))
    governed = load_eval_set(main.tree, cluster.eval_set)
    inputs = Inputs(own, parent.adapter)
    outcome = train_in(folder / JOB_FOLDER, workspace, cluster, governed, inputs, parent, settings)
    sealed = folder / "artifact"
    made = seal_adapter(outcome.adapter, sealed, cluster.base_model)
    Store(workspace.store(cluster.store)).put(sealed, made)
    return made


def _settings(workspace: Workspace, main: GovernedState, history: SpecialistHistory, training: TrainingFacts) -> Stage:
    """The settings that the training statement names by digest: the cluster's today, else the last that it had."""
    files = (f"clusters/{history.cluster}/cluster.yaml", CLUSTER_DEFAULTS)
    log = workspace.git.text("log", "--first-parent", "--format=%H", main.tree.commit, "--", *files)
    for commit in (main.tree.commit, *log.split()):
        try:
            found = load_cluster(workspace.revision(commit), history.cluster).training
        except InvalidInput:
            continue
        if training_digest(found) == training.hyperparameters:
            return stages_of(found)[0]
    raise InvalidInput(
        "unknown-training",
        f"No cluster.yaml of main has the settings by which {history.specialist} says that it was trained",
        "Compare with a clone that verifies: such a candidate is refused by the check `training`.",
        specialist=history.specialist,
    )
