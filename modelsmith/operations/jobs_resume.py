"""``modelsmith jobs resume``."""

from __future__ import annotations

import json

from pydantic import ValidationError
from typing_extensions import override

from modelsmith.fleet.job_records import JobRequest
from modelsmith.fleet.jobs import Jobs
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.job_view import JobArgument, JobView, job_view
from modelsmith.operations.table import find
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput


class JobsResumeRequest(Request):
    """Lets a job go on that a reboot or `jobs cancel` ended, in its old place in the queue; it repeats nothing."""

    job: JobArgument

    @override
    def calls(self, workspace: Workspace) -> frozenset[str]:
        request = Jobs.of(workspace).find(self.job).submitted
        return _of(request).calls(workspace) | {request.operation}


def _of(request: JobRequest) -> Request:
    try:
        return find(request.operation).load().request.model_validate_json(json.dumps(request.arguments))
    except (StopIteration, ValidationError):
        raise InvalidInput(
            "job-ended",
            f"Job {request.id} was asked for in words that this version does not know",
            "Ask for the operation again: that is another job.",
            job=request.id,
        ) from None


class JobsResumeResult(Result):
    """The job that goes on."""

    job: JobView


def run(workspace: Workspace, request: JobsResumeRequest) -> JobsResumeResult:
    """Queue it again under its id; it starts when it has its turn."""
    jobs = Jobs.of(workspace)
    calls = _of(jobs.find(request.job).submitted).calls(workspace)
    return JobsResumeResult(job=job_view(jobs.resume(workspace, request.job, calls)))
