"""A job as a task: what a face that hands out tickets knows of one. It is read from the job; nothing else is kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from modelsmith.fleet import tickets
from modelsmith.fleet.jobs import Job, Jobs
from modelsmith.operations.job_view import JobView, job_view, last_sign
from modelsmith.repository.workspace import Workspace


class Task(NamedTuple):
    """One turn of a job, as its ticket's holder may see it."""

    ticket: str
    job: JobView
    created: datetime
    updated: datetime
    result: Mapping[str, Any] | None
    """What the operation gave; None while it runs, and where it failed."""
    error: Mapping[str, Any] | None
    """``code``, ``message``, ``mend`` where it failed."""
    over: bool
    """Whether this turn ended, and the job was let go on: that is another task."""


def task_of(workspace: Workspace, job: str, holder: str) -> Task:
    """The task that a holder is given for a job that was just asked for.

    Raises:
        InvalidInput: ``unknown-job``.
    """
    found_job = Jobs.of(workspace).find(job)
    return _task(found_job, tickets.ticket(found_job.submitted, holder), over=False)


def find_task(workspace: Workspace, ticket: str, holder: str) -> Task:
    """The task of a ticket, after what has its turn was started.

    Raises:
        InvalidInput: ``unknown-task``.
    """
    jobs = Jobs.of(workspace)
    jobs.go_on()
    job, present = tickets.find(jobs, ticket, holder)
    return _task(job, ticket, over=not present)


def _task(job: Job, ticket: str, over: bool) -> Task:
    ended = job.ended
    return Task(
        ticket=ticket,
        job=job_view(job),
        created=job.submitted.at,
        updated=ended.at if ended else last_sign(job),
        result=ended.result if ended else None,
        error=ended.error if ended else None,
        over=over,
    )
