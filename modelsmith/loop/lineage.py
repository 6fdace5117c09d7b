"""Where a candidate comes from, as facts without text, paths or hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

from modelsmith import __version__
from modelsmith.loop.context import IterationContext
from modelsmith.loop.iteration import BegunIteration
from modelsmith.loop.recipe import StageRun, last_trained, stage_folder
from modelsmith.loop.rows_judge import judge_of
from modelsmith.loop.training import JOB_FOLDER, ROWS_FILE, beats_of, parent_of
from modelsmith.loop.tries import Trained
from modelsmith.schema.canonical import content_digest, file_digest
from modelsmith.schema.curve import StageCurve
from modelsmith.schema.evidence import Library
from modelsmith.schema.promotion import RecoveryFacts, StageFacts, TrainingFacts, all_rows_digest
from modelsmith.schema.run import RunResult
from modelsmith.schema.training import Method, training_digest
from modelsmith.schema.training_row import PreferencePair, TrainingRow
from modelsmith.training.curves import curve_of
from modelsmith.training.rows import ROW_OF, read_rows, rows_digest


def training_facts(
    context: IterationContext, iteration: BegunIteration, training: Trained, diagnosed: RunResult
) -> TrainingFacts:
    """``training.json`` of the candidate."""
    stage_runs = training.stages
    rows = [row for stage_run in stage_runs for row in stage_run.rows if isinstance(row, (TrainingRow, PreferencePair))]
    lineages = [row.lineage for row in rows if isinstance(row, TrainingRow) and row.lineage]
    manifests = {lineage.manifest for lineage in lineages}
    used = {row.generator for row in rows if not (isinstance(row, TrainingRow) and _from_dataset(row))}
    judges = _rows_judges((context.folder(iteration), training.folder), len(stage_runs))
    stages = tuple(stage_facts(stage_run, judge) for stage_run, judge in zip(stage_runs, judges, strict=True))
    trained = last_trained(stage_runs)
    assert trained
    return TrainingFacts(
        base_model=context.cluster.base_model.name,
        base_digest=context.cluster.base_model.digest,
        parent=parent_of(context, iteration),
        method=trained[0].stage.method,
        seed=stage_runs[0].stage.seed,
        rows=sum(stage.rows for stage in stages),
        rows_digest=all_rows_digest(stages),
        generators={g.id: content_digest(g) for g in context.governed.generators if g.id in used},
        reward=context.governed.rubric_digest,
        diagnosed_run=diagnosed.run_id,
        hyperparameters=training_digest(context.cluster.training),
        steps=sum(stage.steps for stage in stages),
        final_loss=trained[1].final_loss,
        toolkit=versions(),
        recoveries=tuple(
            RecoveryFacts(
                stage=number, failure=recovery.failure, action=recovery.action, rows_at_once=recovery.rows_at_once
            )
            for number, stage in enumerate(stage_runs, start=1)
            for recovery in (stage.outcome.recoveries if stage.outcome else ())
        ),
        stages=stages if len(context.cluster.stages) > 1 else (),
        sources=dict(sorted(Counter(lineage.source for lineage in lineages).items())),
        datasets={
            dataset.id: content_digest(dataset)
            for dataset in context.governed.datasets
            if content_digest(dataset) in manifests
        },
        trained_reward=next((stage.trained_reward for stage in stages if stage.trained_reward), None),
        trained_judge=next((stage.trained_judge for stage in stages if stage.trained_judge), None),
        rows_judge=next((stage.rows_judge for stage in stages if stage.rows_judge), None),
        curves=_curves(training.folder, stage_runs),
        tries=training.tries,
        loaded_in_4bit=tuple(
            number
            for number, stage_run in enumerate(stage_runs, start=1)
            if stage_run.outcome and stage_run.stage.load_in_4bit
        ),
        devices=_devices(stage_runs),
    )


def _curves(folder: Path, stage_runs: Sequence[StageRun]) -> tuple[StageCurve, ...]:
    """How each stage that was trained went; none at all where one of them has left no sign of it."""
    trained = [number for number, stage_run in enumerate(stage_runs, start=1) if stage_run.outcome]
    curves = [curve_of(beats_of(stage_folder(folder, number) / JOB_FOLDER), number) for number in trained]
    return tuple(curve for curve in curves if curve) if all(curves) else ()


def _devices(stage_runs: Sequence[StageRun]) -> tuple[int, ...]:
    """On how many devices each stage that was trained ran; none at all where one of them does not say."""
    devices_by_stage = [stage_run.outcome.devices for stage_run in stage_runs if stage_run.outcome]
    return tuple(devices for devices in devices_by_stage if devices) if all(devices_by_stage) else ()


def _rows_judges(folders: Sequence[Path], stages: int) -> list[str | None]:
    """Who decided judged points of each stage's rows: of pairs in the folder of the try, else of the iteration."""
    return [
        next((judge for folder in folders if (judge := judge_of(stage_folder(folder, number)))), None)
        for number in range(1, stages + 1)
    ]


def _from_dataset(row: TrainingRow) -> bool:
    return row.lineage is not None and row.lineage.source == "dataset"


def stage_facts(stage_run: StageRun, rows_judge: str | None) -> StageFacts:
    """What the candidate's record says of one stage; ``rows_judge`` decided judged points of its rows."""
    skipped = stage_run.outcome is None
    settings = stage_run.stage
    return StageFacts(
        method=settings.method,
        settings=content_digest(settings, {"seed"}),
        seed=settings.seed,
        parent=stage_run.parent,
        rows=len(stage_run.rows),
        rows_digest=None if skipped else rows_digest(stage_run.rows),
        steps=stage_run.outcome.steps if stage_run.outcome else 0,
        skipped="no-pairs" if skipped else None,
        trained_reward=stage_run.outcome.reward if stage_run.outcome else None,
        trained_judge=stage_run.outcome.judge if stage_run.outcome else None,
        rows_judge=rows_judge,
    )


def kept_rows(folder: Path, facts: TrainingFacts) -> tuple[TrainingRow, ...] | None:
    """`rows_of` an iteration's folder, if these are the very rows that the training names; None otherwise."""
    digests = rows_digests(facts)
    for number, due in enumerate(digests, start=1):
        path = stage_folder(folder, number) / ROWS_FILE
        if due and not (path.is_file() and file_digest(path) == due):
            return None
    return rows_of(folder, [stage.method for stage in facts.stages] or [facts.method])


def rows_digests(facts: TrainingFacts) -> tuple[str | None, ...]:
    """Digest of the rows of each stage; None for one that was skipped."""
    return tuple(stage.rows_digest for stage in facts.stages) or (facts.rows_digest,)


def rows_of(folder: Path, methods: Sequence[Method]) -> tuple[TrainingRow, ...]:
    """What an iteration's stages were trained on, in order, as prompts with the answer that is taught."""
    training_rows: list[TrainingRow] = []
    for number, method in enumerate(methods, start=1):
        rows = read_rows(stage_folder(folder, number) / ROWS_FILE, ROW_OF[method])
        training_rows += [row.as_row() for row in rows if isinstance(row, PreferencePair)]
        training_rows += [row for row in rows if isinstance(row, TrainingRow)]
    return tuple(training_rows)


def versions() -> str:
    """Modelsmith and the libraries beside it, with their versions, in one line."""
    return ", ".join(
        [f"modelsmith {__version__}", *(f"{name} {installed}" for name, installed in environment().items())]
    )


def environment() -> dict[Library, str]:
    """Versions of the libraries that shape weights and completions."""
    versions_by_name: dict[Library, str] = {}
    for name in get_args(Library):
        try:
            versions_by_name[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions_by_name


def lineage_problem(facts: TrainingFacts, rows: Sequence[TrainingRow]) -> str:
    """What the rows themselves contradict of what a training statement says of their sources; empty when nothing."""
    lineages = [row.lineage for row in rows if row.lineage]
    manifests = {lineage.manifest for lineage in lineages if lineage.manifest}
    if dict(Counter(lineage.source for lineage in lineages)) != facts.sources:
        return "its rows come from other sources than it says"
    if manifests != set(facts.datasets.values()):
        return "its rows are of other data sets than it says"
    if {lineage.rubric for lineage in lineages} - {facts.reward}:
        return "its rows passed another rubric than it says"
    return ""
