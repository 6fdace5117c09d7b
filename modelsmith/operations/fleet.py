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

NEXT = 20
"""Jobs that wait, as many as are shown."""


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
    """Those that run, and the next 20 that wait for their turn."""
    queued: int
    """How many wait for their turn in all."""
    gpus: tuple[Gpu, ...]
    processors: int


def run(workspace: Workspace, request: FleetRequest) -> FleetResult:
    """Look, after jobs that have their turn were started."""
    jobs = Jobs.of(workspace)
    jobs.go_on()
    rows = status.run(workspace, StatusRequest()).clusters
    return FleetResult(
        clusters=tuple(
            FleetCluster(
                cluster=row.cluster,
                serving=row.serving,
                phase=row.phase,
                in_validation=tuple(of.specialist for of in row.specialists if of.state == "customer-deployed"),
                waiting=row.waiting,
                hold=row.hold,
            )
            for row in rows
        ),
        jobs=tuple(map(job_view, (*jobs.at_work(), *jobs.waiting(NEXT)))),
        queued=jobs.count_waiting(),
        gpus=gpus(),
        processors=os.cpu_count() or 1,
    )
