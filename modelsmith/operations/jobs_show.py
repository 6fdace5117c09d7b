"""``modelsmith jobs show``."""

from __future__ import annotations

from pydantic import JsonValue

from modelsmith.fleet.jobs import Jobs
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.job_view import JobArgument, JobView, job_view
from modelsmith.repository.workspace import Workspace


class JobsShowRequest(Request):
    """One job: how far it is and how long its present step still takes; once it has ended, what came of it."""

    job: JobArgument


class JobsShowResult(Result):
    """The job, and what came of it."""

    job: JobView
    arguments: dict[str, JsonValue]
    """Arguments of the operation that was asked for."""
    result: dict[str, JsonValue] | None
    """What the operation gave, as with ``--json``; None while it runs, and where it failed."""
    error: dict[str, JsonValue] | None
    """``code``, ``message``, ``mend`` where it failed."""


def run(workspace: Workspace, request: JobsShowRequest) -> JobsShowResult:
    """Read it, after what has its turn was started."""
    jobs = Jobs.of(workspace)
    jobs.go_on()
    job = jobs.find(request.job)
    ended = job.ended
    return JobsShowResult(
        job=job_view(job),
        arguments=job.submitted.arguments,
        result=ended.result if ended else None,
        error=ended.error if ended else None,
    )
