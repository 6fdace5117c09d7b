"""Training as the loop sees it: an iteration's job in its folder, supervised, adopted when it is done already."""

from __future__ import annotations

from pathlib import Path

from modelsmith.fleet.hosts import executor_on
from modelsmith.loop.context import IterationContext
from modelsmith.loop.evals import BASE
from modelsmith.loop.state import Iteration
from modelsmith.promotion.bases import base_beneath, export_of
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.progress import Progress
from modelsmith.substrates.base_models import resolve
from modelsmith.training.job import Heartbeat, Inputs, TrainJob
from modelsmith.training.supervisor import WORKER, TrainOutcome
from modelsmith.training.supervisor import train as supervise

JOB_FOLDER = "job"


def parent_of(context: IterationContext, iteration: Iteration) -> str:
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


def train(context: IterationContext, iteration: Iteration, rows: Path) -> TrainOutcome:
    """Train on the rows from the model that serves, or from the base model (see `parent_of`).

    The same job trained before is adopted.

    Raises:
        InfrastructureFailure: the worker failed for good.
        KeyboardInterrupt: interrupted; the worker has stopped and the next call resumes from its checkpoint.
    """
    training = context.cluster.training
    workspace = context.workspace
    base = resolve(context.cluster.base_model, workspace.root, workspace.models, workspace.models_memory)
    parent = context.target(parent_of(context, iteration))
    job = TrainJob(
        base=base.digest,
        parent=parent.artifact,
        rows=file_digest(rows),
        system=context.governed.evalset.prompt.system,
        chat=context.cluster.base_model.chat,
        training=training.model_copy(update={"seed": training.seed + iteration.number - 1}),
    )

    def progress(beat: Heartbeat) -> None:
        text = f"loss {beat.loss:.3f}, about {round(beat.eta)}s left"
        context.workspace.notify(Progress("train", text, beat.step, beat.steps))

    inputs = Inputs(rows, parent.adapter)
    executor = executor_on(context.cluster.hosts, WORKER, base.folder)
    return supervise(context.folder(iteration) / JOB_FOLDER, job, inputs, executor, progress)
