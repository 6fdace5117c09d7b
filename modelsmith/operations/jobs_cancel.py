"""``modelsmith jobs cancel``."""

from __future__ import annotations

from modelsmith.fleet.jobs import Jobs
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.job_view import JobArgument, JobView, job_view
from modelsmith.repository.workspace import Workspace

GRACE = 150.0
"""Seconds that a job has to put its work away; a training may need two minutes for a checkpoint."""


class JobsCancelRequest(Request):
    """Ends a job that runs or waits; what it has done so far is kept, and `jobs resume` goes on from there.

    A job that has ended already stays as it is.
    """

    job: JobArgument


class JobsCancelResult(Result):
    """The job that was cancelled."""

    job: JobView


def run(workspace: Workspace, request: JobsCancelRequest) -> JobsCancelResult:
    """Ask for its end, and wait for it."""
    return JobsCancelResult(job=job_view(Jobs.of(workspace).cancel(request.job, GRACE)))
