"""``modelsmith jobs list``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.fleet.jobs import Jobs
from modelsmith.operations.contract import Cli, Request, Result
from modelsmith.operations.job_view import JobView, job_view
from modelsmith.repository.workspace import Workspace

NEWEST = 20


class JobsListRequest(Request):
    """Long operations that were started by an agent's tool: what runs, what waits for its turn, what came of others.

    A job that neither runs nor has ended is `interrupted`, as after a reboot: `jobs resume` lets it go on.
    """

    everything: Annotated[bool, Field(description="All jobs; else the newest 20."), Cli(option="--all")] = False


class JobsListResult(Result):
    """Newest first."""

    jobs: tuple[JobView, ...]
    older: int
    """How many more there are."""


def run(workspace: Workspace, request: JobsListRequest) -> JobsListResult:
    """Read them; nothing is changed."""
    jobs = [job_view(job) for job in reversed(Jobs(workspace).all())]
    shown = jobs if request.everything else jobs[:NEWEST]
    return JobsListResult(jobs=tuple(shown), older=len(jobs) - len(shown))
