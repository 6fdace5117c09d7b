"""``modelsmith fleet``: this machine at work."""

from __future__ import annotations

import os

from modelsmith.fleet.gpus import Gpu, gpus
from modelsmith.fleet.jobs import Jobs
from modelsmith.operations import status
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.job_view import JobView, job_view
from modelsmith.operations.status import HoldView, ServingView, StatusRequest, WaitingView
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen


class FleetRequest(Request):
    """What every cluster serves and waits for, which jobs run here, and how busy this machine's GPUs are.

    It speaks of this machine and this clone alone.
    """


class FleetCluster(Frozen):
    """One cluster, in short."""

    cluster: str
    serving: tuple[ServingView, ...]
    phase: str | None
    in_validation: tuple[str, ...]
    """Specialists that serve and are not yet validated."""
    waiting: tuple[WaitingView, ...]
    hold: HoldView | None


class FleetResult(Result):
    """This machine at work."""

    clusters: tuple[FleetCluster, ...]
    jobs: tuple[JobView, ...]
    """Those that run or wait for their turn."""
    gpus: tuple[Gpu, ...]
    processors: int


def run(workspace: Workspace, request: FleetRequest) -> FleetResult:
    """Look; nothing is changed."""
    known = status.run(workspace, StatusRequest()).clusters
    return FleetResult(
        clusters=tuple(
            FleetCluster(
                cluster=one.cluster,
                serving=one.serving,
                phase=one.phase,
                in_validation=tuple(of.specialist for of in one.specialists if of.state == "customer-deployed"),
                waiting=one.waiting,
                hold=one.hold,
            )
            for one in known
        ),
        jobs=tuple(job_view(job) for job in Jobs(workspace).all() if job.state in ("queued", "running")),
        gpus=gpus(),
        processors=os.cpu_count() or 1,
    )
