"""Training as the loop sees it: an iteration's job in its folder, supervised, adopted when it is done already."""

from __future__ import annotations

from pathlib import Path

from modelsmith.fleet.executor import LocalExecutor
from modelsmith.loop.desk import Desk
from modelsmith.loop.state import Iteration
from modelsmith.schema.progress import Progress
from modelsmith.substrates.base_models import resolve
from modelsmith.training.job import Heartbeat, TrainJob
from modelsmith.training.supervisor import TrainOutcome
from modelsmith.training.supervisor import train as supervise

JOB_FOLDER = "job"


def train(desk: Desk, iteration: Iteration, rows: Path) -> TrainOutcome:
    """Train on the rows from the model that serves; the same job trained before is adopted.

    Raises:
        InfrastructureFailure: the worker failed for good.
        KeyboardInterrupt: interrupted; the worker has stopped and the next call resumes from its checkpoint.
    """
    training = desk.cluster.training
    base = resolve(desk.cluster.base_model, desk.workspace.root, desk.workspace.models)
    parent = desk.subject(iteration.reference).adapter
    job = TrainJob(
        model=str(base.folder),
        parent=str(parent) if parent else None,
        rows=str(rows),
        system=desk.governed.evalset.prompt.system,
        training=training.model_copy(update={"seed": training.seed + iteration.number - 1}),
    )

    def progress(beat: Heartbeat) -> None:
        text = f"loss {beat.loss:.3f}, about {round(beat.eta)}s left"
        desk.workspace.notify(Progress("train", text, beat.step, beat.steps))

    return supervise(desk.folder(iteration) / JOB_FOLDER, job, LocalExecutor(), progress)
