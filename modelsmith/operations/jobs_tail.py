"""``modelsmith jobs tail``."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from modelsmith.fleet.jobs import LOG, Jobs
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.job_view import JobArgument
from modelsmith.repository.workspace import Workspace

LARGEST = 262_144
"""Bytes of a log's end that are looked at."""


class JobsTailRequest(Request):
    """The last lines of a job's log."""

    job: JobArgument
    lines: Annotated[int, Field(ge=1, le=1000, description="How many lines.")] = 20


class JobsTailResult(Result):
    """Messages of a job, oldest first."""

    job: str
    lines: tuple[str, ...]


def run(workspace: Workspace, request: JobsTailRequest) -> JobsTailResult:
    """Read the end of the log, after what has its turn was started; a job that waits has said nothing."""
    jobs = Jobs.of(workspace)
    jobs.go_on()
    job = jobs.find(request.job)
    try:
        with (job.folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LARGEST))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        lines = []
    return JobsTailResult(job=job.submitted.id, lines=tuple(lines[-request.lines :]))
