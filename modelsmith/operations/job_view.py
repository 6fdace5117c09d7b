"""How jobs are shown, and how a face that cannot wait starts one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from modelsmith.fleet.jobs import PROGRESS, Job, Jobs, JobState
from modelsmith.loop.running import Running, read_running
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen

JobArgument = Annotated[str, Field(max_length=64, description="Id of the job."), ARGUMENT]


class JobView(Frozen):
    """One job, as it is shown."""

    job: str = Field(serialization_alias="jobId")
    operation: str
    cluster: str
    status: JobState
    asked_at: str
    message: str
    """What it does now; empty when it does nothing."""
    done: int
    total: int
    """Units finished and in all; a total of 0 means that there is nothing to count."""
    minutes_left: float | None
    """Until this step ends, if it goes on as it did."""
    exit: int | None
    """Exit code that the same command would have ended with; None while it runs."""


class JobStarted(Result):
    """A long operation that goes on by itself."""

    job: str = Field(serialization_alias="jobId")
    status: str
    """``started``; ``queued`` while its turn has not come; or how the job stands that was at this very request."""
    cluster: str
    tag: str | None
    """Name of the run, where it was given."""
    log: str
    """Its log, as seen from the clone, once it has started. `jobs tail` shows the end of it."""
    estimated_duration_minutes: float | None
    """Until its present step ends; None while nobody can know."""


def start_job(workspace: Workspace, operation: str, request: Request) -> JobStarted:
    """Queue the operation for a process of its own, or find the one that is at the same request.

    Raises:
        InvalidInput: ``unknown-cluster``, ``invalid-file``: nothing is queued that could only fail.
        InfrastructureFailure: ``job-start``; ``too-many-jobs``.
    """
    if cluster := request.queue():
        load_cluster(workspace.files, cluster)
    arguments = request.model_dump(mode="json", exclude_defaults=True)
    job, started = Jobs.of(workspace).submit(workspace, operation, arguments, request.queue(), request.calls(workspace))
    job_state = job_view(job)
    tag = arguments.get("tag")
    return JobStarted(
        job=job_state.job,
        status="started" if started else job_state.status,
        cluster=job_state.cluster,
        tag=tag if isinstance(tag, str) else None,
        log=f".git/modelsmith/jobs/{job_state.job}/log",
        estimated_duration_minutes=job_state.minutes_left,
    )


def last_sign(job: Job) -> datetime:
    """When a job that has not ended was last heard of."""
    now = _running(job)
    return now.at if now else job.submitted.at


def _running(job: Job) -> Running | None:
    return read_running(job.folder / PROGRESS) if job.state == "running" else None


def job_view(job: Job) -> JobView:
    """The job as it stands."""
    request = job.submitted
    now = _running(job)
    seconds_left = now.seconds_left if now else None
    return JobView(
        job=request.id,
        operation=request.operation,
        cluster=request.cluster,
        status=job.state,
        asked_at=request.at.isoformat(timespec="seconds"),
        minutes_left=None if seconds_left is None else round(seconds_left / 60, 1),
        exit=job.ended.exit if job.ended else None,
        message=f"{now.phase}: {now.message}" if now else "",
        done=now.done if now else 0,
        total=now.total if now else 0,
    )
