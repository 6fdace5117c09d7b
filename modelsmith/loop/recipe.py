"""The stages of a training, one after the other: each goes on from the adapter that the one before has left.

Each stage has a folder: the iteration's own for the first, ``stage-N`` in it for the others. Everything in it can be
made again from what lies before it, and is adopted when it is there already; so a kill costs what was under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelsmith.diagnosis.meaning import Meaning
from modelsmith.diagnosis.pairs import pairs_from
from modelsmith.loop.answers import draw
from modelsmith.loop.engines import Target
from modelsmith.loop.rows_judge import rows_judge
from modelsmith.loop.training import JOB_FOLDER, ROWS_FILE, seal_adapter, train_in
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.governance import Policy
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.progress import Progress
from modelsmith.schema.training import Dpo, Stage
from modelsmith.schema.training_row import Prompt, TrainingRow
from modelsmith.schema.tries import seed_of
from modelsmith.training.job import Inputs
from modelsmith.training.judging import require_rows_judge
from modelsmith.training.rows import ROW_OF, read_rows, write_rows
from modelsmith.training.supervisor import TrainOutcome

PROMPTS_FILE = "prompts.jsonl"
"""Name of the file of prompts in a stage's folder, where rows are yet to be made of them."""
NO_PAIRS = "the model fails none of its prompts, so there is no pair to learn from"


@dataclass(frozen=True)
class StageRun:
    """One stage: what it was trained on, and what came of it."""

    stage: Stage
    """Its settings, with the seed of this iteration."""
    parent: str | None
    """Artifact id of the adapter that it went on from; None for the base model."""
    rows: tuple[Frozen, ...]
    """Of the kind of its method; none when it was skipped."""
    outcome: TrainOutcome | None
    """None when it was skipped: there was nothing to learn."""


@dataclass(frozen=True)
class Recipe:
    """Inputs of a training: governed files of one commit, in one clone."""

    workspace: Workspace
    cluster: Cluster
    governed: GovernedSet
    meaning: Meaning | None = None
    """How near in meaning a row may come to what is scored, where policy says it."""
    policy: Policy | None = None
    """Main's, whose limits hold beside the eval set's."""


RowsOf = Callable[[Recipe, Path, Stage, Target], tuple[Frozen, ...]]
"""The rows of a stage, from its folder and the model that it goes on from."""


def stage_folder(folder: Path, number: int) -> Path:
    """Where the stage with this number, counted from 1, keeps its rows and its job."""
    return folder if number == 1 else folder / f"stage-{number}"


def seeded(stage: Stage, iteration: int, number: int = 1) -> Stage:
    """The stage's settings with the seed of a try of an iteration, both counted from 1."""
    return stage.model_copy(update={"seed": seed_of(stage.seed, iteration, number)})


def run_stages(
    recipe: Recipe,
    folder: Path,
    stages: Sequence[Stage],
    parent: Target,
    rows: RowsOf | None = None,
    name: str = "",
) -> tuple[StageRun, ...]:
    """Train stage after stage in a folder in which `write_prompts` has left what each begins with.

    ``rows`` finds a stage's rows where they are given already; `stage_rows` otherwise. ``name`` stands before what is
    said of a stage. Jobs that were finished before are adopted.

    Raises:
        InvalidInput: as `train_in`.
        InfrastructureFailure: a worker failed for good.
        KeyboardInterrupt: interrupted; the worker has stopped and the next call resumes from its checkpoint.
    """
    stage_runs: list[StageRun] = []
    for number, stage in enumerate(stages, start=1):
        own = stage_folder(folder, number)
        own_rows = (rows or stage_rows)(recipe, own, stage, parent)
        stage_name = f"stage {number} of {len(stages)}, {stage.method}" if len(stages) > 1 else ""
        label = ", ".join(part for part in (name, stage_name) if part)
        if not own_rows:
            recipe.workspace.notify(Progress("train", f"{label or stage.method} is skipped: {NO_PAIRS}"))
            stage_runs.append(StageRun(stage, parent.artifact, (), None))
            continue
        inputs = Inputs(own / ROWS_FILE, parent.adapter)
        job = own / JOB_FOLDER
        outcome = train_in(job, recipe.workspace, recipe.cluster, recipe.governed, inputs, parent, stage, label)
        stage_runs.append(StageRun(stage, parent.artifact, own_rows, outcome))
        if number < len(stages):
            parent = _next_parent(recipe.cluster, outcome.adapter, folder / f"after-{number}", number)
    return tuple(stage_runs)


def last_trained(stage_runs: Sequence[StageRun]) -> tuple[StageRun, TrainOutcome] | None:
    """The last stage that was not skipped, whose adapter is the training's; None when all were."""
    return next(
        ((stage_run, stage_run.outcome) for stage_run in reversed(stage_runs) if stage_run.outcome is not None), None
    )


def write_prompts(
    folder: Path, stage: Stage, prompts: Sequence[TrainingRow], plain: Callable[[TrainingRow], Frozen]
) -> None:
    """Leave in a stage's folder what it begins with: its rows, or the prompts that they are yet to be made of."""
    write_rows(
        begins_with(folder, stage)[0], [plain(prompt) for prompt in prompts] if stage.method == "sft" else prompts
    )


def begins_with(folder: Path, stage: Stage) -> tuple[Path, type[TrainingRow]]:
    """The file with what a stage begins with, and what a line of it is."""
    if isinstance(stage, Dpo):
        return folder / PROMPTS_FILE, Prompt
    return folder / ROWS_FILE, TrainingRow if stage.method == "sft" else Prompt


def stage_rows(recipe: Recipe, folder: Path, stage: Stage, model: Target) -> tuple[Frozen, ...]:
    """The rows of a stage, in its folder: those that lie there, or pairs from what the model answers to its prompts."""
    if not isinstance(stage, Dpo):
        return read_rows(folder / ROWS_FILE, ROW_OF[stage.method])
    prompts = read_rows(folder / PROMPTS_FILE, Prompt)
    sampling = Sampling(
        max_new_tokens=recipe.governed.evalset.sampling.max_new_tokens,
        temperature=stage.temperature,
        repeats=stage.samples,
        seed=stage.seed,
    )
    system = recipe.governed.evalset.prompt.system
    answers = draw(recipe.workspace, recipe.cluster, model, prompts, system, sampling, folder)
    governed = recipe.governed
    require_rows_judge(governed.rubric, governed.evalset.judge, stage, recipe.cluster.base_model.digest)
    with rows_judge(recipe.workspace, governed, folder, stage.judge_calls) as judged:
        pairs = pairs_from(governed.rubric, prompts, answers, judged)
    write_rows(folder / ROWS_FILE, pairs)
    recipe.workspace.notify(
        Progress("train", f"{len(pairs)} pairs from what {model.name} fails of {len(prompts)} prompts")
    )
    return pairs


def _next_parent(cluster: Cluster, adapter: Path, folder: Path, number: int) -> Target:
    artifact = seal_adapter(adapter, folder, cluster.base_model)
    return Target(f"stage {number}", artifact, cluster.base_model, artifact, folder)
