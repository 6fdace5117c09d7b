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

    Whoever looks starts what has its turn, should the one before it have ended without a word.
    A job that neither runs nor has ended is `interrupted`, as after a reboot: `jobs resume` lets it go on.
    """

    everything: Annotated[
        bool, Field(description="All jobs; else those that run, and the newest 20."), Cli(option="--all")
    ] = False


class JobsListResult(Result):
    """Jobs: those that run, then the others; newest first."""

    jobs: tuple[JobView, ...]
    queued: int
    """How many wait for their turn, shown or not."""
    older: int
    """How many more there are."""


def run(workspace: Workspace, request: JobsListRequest) -> JobsListResult:
    """Start what has its turn, and read them."""
    jobs = Jobs.of(workspace)
    jobs.go_on()
    at_work = jobs.at_work()
    running = {job.submitted.id for job in at_work}
    newest = jobs.newest(None if request.everything else NEWEST)
    listed_jobs = [*at_work, *(job for job in newest if job.submitted.id not in running)]
    return JobsListResult(
        jobs=tuple(map(job_view, listed_jobs)),
        queued=jobs.count_waiting(),
        older=max(0, jobs.count() - len(listed_jobs)),
    )
