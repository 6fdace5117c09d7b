"""``modelsmith train``: one stage by hand."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.loop.trial import train_stage
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.results import find_run
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Digest
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import RecoveryFacts
from modelsmith.schema.training import Method


class TrainRequest(Request):
    """Trains one stage of a cluster on the failures of a run, from the model that the run is of.

    It is a trial: adapter and rows stay on this machine, and no candidate is made of them; iterate makes candidates,
    runs all stages, and tries as many seeds as `loop.seeds` says, of which this trains the first alone. Before the
    first step it says how long the training will take, where one of the same kind has run in this clone, and at each
    step how long is left. Interrupted, the same command goes on where it stopped; a stage that was trained before is
    taken from where it lies.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/.")]
    eval_tag: Annotated[str, Field(description="Tag of the run whose model and failures are trained on.")]
    stage: Annotated[
        int | None, Field(ge=1, le=9, description="Number of the stage in the cluster file; the first when not given.")
    ] = None
    method: Annotated[Method | None, Field(description="The first stage by this method.")] = None
    target: Annotated[
        Literal["failures", "all"], Field(description="Aim at what failed, or take every generator equally.")
    ] = "failures"


class TrainResult(Result):
    """The stage that was trained, and how it went."""

    cluster: str
    stage: int
    method: Method
    parent: str
    """Model that it went on from."""
    rows: int
    """Rows that it was trained on; 0 when it was skipped."""
    steps: int
    seconds: float
    """Time of training, without loading."""
    final_loss: float | None
    restarts: int
    """How often the worker was started again."""
    recoveries: tuple[RecoveryFacts, ...]
    """What failed and was mended, by this command or an earlier one."""
    adopted: bool
    """It had been trained before."""
    seed: int
    """The stage's own, in the cluster file."""
    seeds: int
    """How many iterate tries (`loop.seeds`); a trial is of the first alone."""
    artifact: Digest | None
    """Id of the sealed adapter in the artifact store; null when the stage was skipped, as the model fails nothing."""
    folder: str
    """Where rows, log and adapter lie."""


def run(workspace: Workspace, request: TrainRequest) -> TrainResult:
    """Train one stage by hand."""
    run_result = find_run(workspace, request.eval_tag)
    if run_result.cluster != request.cluster:
        raise InvalidInput(
            "other-cluster",
            f"The run {request.eval_tag} is of the cluster {run_result.cluster}, not of {request.cluster}.",
            "Name a run of this cluster.",
            tag=request.eval_tag,
            cluster=run_result.cluster,
        )
    trial = train_stage(workspace, run_result, request.stage, request.method, request.target)
    outcome = trial.run.outcome
    return TrainResult(
        cluster=request.cluster,
        stage=trial.number,
        method=trial.run.stage.method,
        parent=trial.parent,
        rows=len(trial.run.rows),
        steps=outcome.steps if outcome else 0,
        seconds=outcome.seconds if outcome else 0.0,
        final_loss=outcome.final_loss if outcome else None,
        restarts=outcome.restarts if outcome else 0,
        recoveries=tuple(
            RecoveryFacts(
                stage=trial.number, failure=recovery.failure, action=recovery.action, rows_at_once=recovery.rows_at_once
            )
            for recovery in (outcome.recoveries if outcome else ())
        ),
        adopted=outcome.adopted if outcome else False,
        seed=trial.run.stage.seed,
        seeds=trial.seeds,
        artifact=trial.artifact,
        folder=str(trial.folder),
    )
