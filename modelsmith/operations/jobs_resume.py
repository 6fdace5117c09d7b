"""``modelsmith jobs resume``."""

from __future__ import annotations

from modelsmith.fleet.jobs import Jobs
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.job_view import JobArgument, JobView, job_view
from modelsmith.repository.workspace import Workspace


class JobsResumeRequest(Request):
    """Lets a job go on that a reboot or `jobs cancel` ended; it repeats nothing that is done."""

    job: JobArgument


class JobsResumeResult(Result):
    """The job."""

    job: JobView


def run(workspace: Workspace, request: JobsResumeRequest) -> JobsResumeResult:
    """Start it again under its id."""
    return JobsResumeResult(job=job_view(Jobs(workspace).resume(request.job)))
