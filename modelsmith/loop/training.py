"""Training as the loop sees it: an iteration's job in its folder, supervised, adopted when it is done already."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from modelsmith.artifacts.seal import describe, seal
from modelsmith.evidence.training_curve import StageShown, training_curve
from modelsmith.fleet.folder import HEARTBEAT_FILE, lines_since
from modelsmith.fleet.hosts import Model, executor_on
from modelsmith.loop.context import IterationContext
from modelsmith.loop.engines import Target, reward_judge
from modelsmith.loop.estimate import expected_seconds
from modelsmith.loop.evals import BASE
from modelsmith.loop.iteration import BegunIteration
from modelsmith.promotion.bases import base_beneath, export_of
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.progress import Progress
from modelsmith.schema.source import BaseModelSource
from modelsmith.schema.training import Grpo, Stage
from modelsmith.signing.files import write_atomically
from modelsmith.substrates.base_models import resolve
from modelsmith.training.curves import curve_of
from modelsmith.training.job import Heartbeat, Inputs, TrainJob, Waiting, finished, heartbeats
from modelsmith.training.recovery import Recovery
from modelsmith.training.supervisor import WORKER, TrainOutcome
from modelsmith.training.supervisor import train as supervise
from modelsmith.training.tracking import Tracker, tracked_run

JOB_FOLDER = "job"
CURVE_FILE = "curve.svg"
"""Name of the picture of a training, in its job's folder."""
ROWS_FILE = "rows.jsonl"
"""Name of the file of training rows in an iteration's folder."""


def try_folder(folder: Path, number: int) -> Path:
    """Where the try with this number keeps its stages, in an iteration's folder that has several."""
    return folder / f"try-{number}"


def training_begun(folder: Path) -> bool:
    """Whether an iteration trains on its rows, or has: then they stay as they are."""
    return (folder / JOB_FOLDER).exists() or (try_folder(folder, 1) / JOB_FOLDER).exists()


def parent_of(context: IterationContext, iteration: BegunIteration) -> str:
    """What training goes on from: the adapter of the reference, or the base model where that lies over another.

    An export has no adapter of its own: training goes on from the one that it was made from, unless that is retired.
    """
    if iteration.reference == BASE:
        return BASE
    main = context.main()
    history = main.histories.find(iteration.reference)
    export = export_of(main, history)
    if export:
        history = main.histories.find(export.parent)
    fit = base_beneath(main, history) == context.cluster.base_model.digest and history.state != "deprecated"
    return history.specialist if fit else BASE


def train_in(
    folder: Path,
    workspace: Workspace,
    cluster: Cluster,
    governed: GovernedSet,
    inputs: Inputs,
    parent: Target,
    training: Stage,
    name: str = "",
) -> TrainOutcome:
    """Train in a job's folder, supervised; the same job trained there before is adopted.

    ``name`` stands before what is said of its progress.

    Raises:
        InfrastructureFailure: the worker failed for good.
        KeyboardInterrupt: interrupted; the worker has stopped and the next call resumes from its checkpoint.
    """
    base = resolve(cluster.base_model, workspace.root, workspace.models, workspace.models_memory)
    judge = reward_judge(workspace, governed) if isinstance(training, Grpo) and training.judge_calls else None
    models = [Model(base.digest, base.folder)]
    if judge and judge[1] and judge[0].model.base_model:
        models.append(Model(judge[0].model.base_model.digest, judge[1]))
    job = TrainJob(
        base=base.digest,
        parent=parent.artifact,
        rows=file_digest(inputs.rows),
        system=governed.evalset.prompt.system,
        chat=cluster.base_model.chat,
        training=training,
        rubric=governed.rubric if training.method == "grpo" else None,
        judge=judge[0] if judge else None,
    )

    expected = expected_seconds(workspace.cluster_folder(cluster.cluster), job)
    expectation = "" if expected is None else f", about {round(expected)}s by the last training of this kind"
    if finished(folder, job.identity()) is None:
        begins = f"{name or training.method}: {training.steps} steps{expectation}"
        workspace.notify(Progress("train", begins, 0, training.steps, expected))

    def report(sentence: str) -> None:
        workspace.notify(Progress("train", sentence))

    tracker, sound = Tracker(folder, tracked_run(cluster, job, name), report), False

    def progress(beat: Heartbeat) -> None:
        tracker.tell(beat)
        gained = f"reward {beat.measures.reward:.2f}, " if beat.measures else ""
        if beat.measures and beat.measures.unclear:
            gained += f"no verdict on {beat.measures.unclear:.0%}, "
        if beat.judge_calls is not None and isinstance(training, Grpo):
            gained += f"judge {beat.judge_calls} of {training.judge_calls} calls, "
        text = f"{name + ': ' if name else ''}{gained}loss {beat.loss:.3f}, about {round(beat.eta)}s left"
        workspace.notify(Progress("train", text, beat.step, beat.steps, beat.eta))

    def recovered(recovery: Recovery) -> None:
        rows = f", {recovery.rows_at_once} rows at once" if recovery.action == "smaller-batch" else ""
        text = f"{name + ': ' if name else ''}{recovery.failure} after step {recovery.step}: {recovery.action}{rows}"
        report(text)  # without a count, since of counted signs of life some are left out

    def waiting(wait: Waiting) -> None:
        report(f"{name + ': ' if name else ''}waits for {wait.whom} since {round(wait.waited)}s: {wait.waits}")

    devices = cluster.devices
    executor = executor_on(workspace.home, cluster.hosts, WORKER, models, report, devices)
    try:
        beside = cluster.beside_serving
        outcome = supervise(folder, job, inputs, executor, progress, recovered, beside, waiting, devices)
        sound = True
        return outcome
    finally:
        tracker.end(sound)
        _draw_curve(folder, f"{training.method} of {cluster.cluster}")


def _draw_curve(folder: Path, title: str) -> None:
    """``curve.svg`` beside the job, also of a training that failed: it shows why."""
    with suppress(OSError):
        beats = beats_of(folder)
        curve = curve_of(beats)
        if curve:
            stage_shown = StageShown("", beats[-1].steps, curve)
            write_atomically(folder / CURVE_FILE, training_curve([stage_shown], title).encode())


def beats_of(folder: Path) -> list[Heartbeat]:
    """The signs of life in a job's folder."""
    return heartbeats(lines_since(folder / HEARTBEAT_FILE, 0)[0])


def seal_adapter(adapter: Path, folder: Path, base: BaseModelSource) -> str:
    """Copy a trained adapter into ``folder``, say what it belongs to, and seal it there; the artifact id."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(adapter, folder)
    describe(folder, base)
    return seal(folder)
