"""Long operations that go on without whoever asked for them: what is kept of each, and whether it still runs.

A job that waits is a record and nothing else. One at work has a process, which holds a lock in the job's folder from
before it starts until it ends, however it ends; so nothing but the lock says that it runs: no process id that another
process may have by now, and nothing that is still there after a reboot.

Jobs of one cluster run one after another, in the order in which they were asked for. Nobody waits for their turn: the
process of a job that ends starts those whose turn it is, and so does every command that looks at jobs. A queue whose
starter was killed goes on at the next look.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Literal, NamedTuple

from modelsmith.fleet import start
from modelsmith.fleet.held import is_held
from modelsmith.fleet.job_records import CANCELLED, Ended, JobRequest, Record, Records
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.children import reap, start_apart
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.steps import step

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
"""``done`` has a result, whatever it says; ``failed`` has an error; ``interrupted`` has neither, and nothing runs."""

_LOCK, LOG, PROGRESS = "lock", "log", "progress.json"
_RUNNER = "modelsmith.operations.run_job"
ROLE = "MODELSMITH_ROLE"
"""Environment variable with the role of whoever asked; none where a person did."""
MOST_AT_ONCE = 16
"""Jobs at work in one clone, each of its own cluster; each of them is a process."""
MOST_WAITING = 4000
"""Jobs that wait in one clone; each of them is a record of at most 64 KiB."""
_LETS_GO = 60.0
"""Seconds in which the process of a job that is over gives back what it held, such as a GPU's memory."""


class Job(NamedTuple):
    """A job as it stands."""

    submitted: JobRequest
    folder: Path
    state: JobState
    ended: Ended | None


class Submitted(NamedTuple):
    """A job that was asked for."""

    job: Job
    started: bool
    """Whether it is at work because of this very request."""


class Jobs:
    """The jobs of one clone; threads and processes may share it."""

    def __init__(self, private: Path) -> None:
        """Address the jobs that are kept in a clone's private folder."""
        self._folder = private / "jobs"
        self._records = Records(private / "jobs.db")

    @classmethod
    def of(cls, workspace: Workspace) -> Jobs:
        """The jobs of a clone."""
        return cls(workspace.private)

    def submit(
        self,
        workspace: Workspace,
        operation: str,
        arguments: Mapping[str, Any],
        cluster: str,
        calls: Iterable[str] = (),
    ) -> Submitted:
        """Queue a job, or find the one that is at this very request; one that was interrupted goes on.

        Args:
            workspace: The clone that it works in, for the role that it has there.
            operation: Name of the operation.
            arguments: Those of its request that are not the defaults.
            cluster: Whose queue it waits in.
            calls: Other operations that it may call.

        Raises:
            InfrastructureFailure: ``too-many-jobs``; ``job-start`` where its turn is now and no process could be
                started: it stays in the queue.
        """
        with self._records.alone() as records:
            request = _job_request(workspace, records.new_id(), operation, arguments, cluster, calls)
            last = records.last_of(request.request)
            state = self._job(last).state if last else None
            if last and state in ("queued", "running"):
                request = last.submitted
            elif last and state == "interrupted":
                request = _next_turn(request, last.submitted)
                records.wait_again(request)
            elif records.count("waiting") >= MOST_WAITING:
                raise InfrastructureFailure(
                    "too-many-jobs",
                    f"{MOST_WAITING} jobs wait already",
                    "Wait until some have ended, or cancel one: `{next}`.",
                    most=MOST_WAITING,
                ).then(step("jobs list", {}))
            else:
                records.add(request)
        started, refused = self._go_on()
        if request.id in refused:
            raise InfrastructureFailure(
                "job-start", "The job's process could not be started", "Check free disk space and memory."
            ) from refused[request.id]
        return Submitted(self.find(request.id), request.id in started)

    def resume(self, workspace: Workspace, id: str, calls: Iterable[str] = ()) -> Job:
        """Let an interrupted or cancelled job go on, where it was in its queue; one that runs or waits is left alone.

        Raises:
            InvalidInput: ``unknown-job``, ``job-ended``.
        """
        with self._records.alone() as records:
            job = self._job(_find_record(records, id))
            if job.state in ("done", "failed"):
                raise InvalidInput(
                    "job-ended", f"Job {id} has ended", "Ask for the operation again: that is another job.", job=id
                )
            if job.state in ("interrupted", "cancelled"):
                old = job.submitted
                request = _job_request(workspace, old.id, old.operation, old.arguments, old.cluster, calls)
                records.wait_again(_next_turn(request, old))
        self.go_on()
        return self.find(id)

    def cancel(self, id: str, grace: float) -> Job:
        """Take a job that waits out of its queue; ask the process of one that runs to put its work away.

        The process is killed after ``grace`` seconds. A job that has ended stays so.

        Raises:
            InvalidInput: ``unknown-job``.
        """
        with self._records.alone() as records:
            job = self._job(_find_record(records, id))
            if job.state == "queued":
                records.end(id, CANCELLED, None, None)
        if job.state == "running":
            self._stop(id, grace)
            self._records.end(id, CANCELLED, None, None)
        self.go_on()
        return self.find(id)

    def find(self, id: str) -> Job:
        """The job of that id.

        Raises:
            InvalidInput: ``unknown-job``.
        """
        return self._job(_find_record(self._records, id))

    def newest(self, most: int | None = None) -> list[Job]:
        """Newest first: so many, or every one."""
        return [self._job(record) for record in self._records.newest(-1 if most is None else most)]

    def at_work(self) -> list[Job]:
        """Jobs that run, newest first."""
        return [job for job in map(self._job, self._records.begun()) if job.state == "running"]

    def waiting(self, most: int) -> list[Job]:
        """Those that wait, in the order of their turn: so many at most."""
        return [self._job(record) for record in self._records.waiting(most)]

    def count(self) -> int:
        """How many there are, ended ones too."""
        return self._records.count()

    def count_waiting(self) -> int:
        """How many wait for their turn."""
        return self._records.count("waiting")

    def go_on(self) -> None:
        """Start what has its turn; what cannot be started now waits for the next who looks."""
        self._go_on()

    def begin(self, id: str) -> Job | None:
        """Mark a job's process as begun; None where it has nothing to do.

        Returns when the job before it in the cluster has given back what it held, or does not for `_LETS_GO` seconds.
        """
        request = self._records.begin(id, os.getpid())
        if request is None:
            return None
        before, until = self._records.last_over(request.cluster), time.monotonic() + _LETS_GO
        while before and is_held(self._folder / before / _LOCK) and time.monotonic() < until:
            time.sleep(0.05)
        return Job(request, self._folder / id, "running", None)

    def end(self, id: str, exit: int, result: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
        """What a job's process says last; what comes after it in the queue is started."""
        self._records.end(id, exit, result, error)
        self.go_on()

    def _go_on(self) -> tuple[list[str], dict[str, OSError]]:
        """Ids of those that were started, and of those that could not be."""
        started: list[str] = []
        refused: dict[str, OSError] = {}
        reap()
        if not self._turns(self._records):
            return started, refused
        with self._records.alone() as records:
            for request in self._turns(records):
                try:
                    records.begin(request.id, self._start(request))
                    started.append(request.id)
                except OSError as error:
                    refused[request.id] = error
        return started, refused

    def _turns(self, records: Records) -> list[JobRequest]:
        """Whose turn it is: the first in line of each cluster that nothing is at work for."""
        first = [_find_record(records, job_id).submitted for job_id in records.first_in_line()]
        if not first:
            return []
        at_work = {job.submitted.cluster for job in map(self._job, records.begun()) if job.state == "running"}
        at_work |= {request.cluster for request in first if is_held(self._folder / request.id / _LOCK)}
        free = [request for request in first if request.cluster not in at_work]
        return free[: max(0, MOST_AT_ONCE - len(at_work))]

    def _start(self, request: JobRequest) -> int:
        """Start its process; nobody else starts one meanwhile.

        The lock is taken here and handed to the process, so at no moment does a job that was started look dead. Killed
        in between, the process says for itself that it has begun.
        """
        folder = self._folder / request.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROGRESS).unlink(missing_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with (folder / LOG).open("ab") as log:
                process = start_apart(
                    [sys.executable, "-P", start.__file__, _RUNNER, str(self._folder.parent), request.id],
                    survives=True,
                    stdin=DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env=_environment(request),
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)
        return process.pid

    def _stop(self, id: str, grace: float) -> None:
        """Ask the process for its end, then kill it; returns when it is gone."""
        folder, until = self._folder / id, time.monotonic() + grace
        for number, pause in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
            signalled = False
            while is_held(folder / _LOCK) and (pause is None or time.monotonic() < until):
                pid = _find_record(self._records, id).pid
                if pid and not signalled:
                    with contextlib.suppress(ProcessLookupError):
                        (os.kill if number == signal.SIGTERM else os.killpg)(pid, number)
                    signalled = True
                time.sleep(0.05)

    def _job(self, record: Record) -> Job:
        """How it stands. What may have changed between two looks, at record and lock, is looked at again."""
        folder = self._folder / record.submitted.id
        while record.ended is None:
            if is_held(folder / _LOCK):
                return Job(record.submitted, folder, "running", None)
            if record.stands == "waiting":
                return Job(record.submitted, folder, "queued", None)
            record, last_record = _find_record(self._records, record.submitted.id), record
            if record == last_record:
                return Job(record.submitted, folder, "interrupted", None)
        ended = record.ended
        state: JobState = "cancelled" if ended.exit == CANCELLED else "failed" if ended.error else "done"
        return Job(record.submitted, folder, state, ended)


def _job_request(
    workspace: Workspace, id: str, operation: str, arguments: Mapping[str, Any], cluster: str, calls: Iterable[str]
) -> JobRequest:
    return JobRequest(
        id=id,
        operation=operation,
        arguments=dict(arguments),
        cluster=cluster,
        at=datetime.now(UTC),
        role=workspace.role,
        root=os.path.relpath(workspace.root, workspace.private),
        home=str(workspace.home),
        calls=tuple(sorted(calls)),
        secret=secrets.token_hex(16),
    )


def _next_turn(request: JobRequest, old: JobRequest) -> JobRequest:
    """The request of a job's next turn, when it goes on."""
    lasting = {"id": old.id, "at": old.at, "secret": old.secret or request.secret}
    return request.model_copy(update=lasting | {"turn": old.turn + 1})


def _find_record(records: Records, id: str) -> Record:
    record = records.find(id)
    if record is None:
        raise InvalidInput(
            "unknown-job", f"No job {id[:40]!a} in this clone", "`{next}` lists them.", job=id[:40]
        ).then(step("jobs list", {}))
    return record


def _environment(request: JobRequest) -> dict[str, str]:
    """The environment of the process that starts the job, with the role and home of the caller who asked for it."""
    inherited = {name: value for name, value in os.environ.items() if name != ROLE}
    role = {ROLE: request.role} if request.role else {}
    return inherited | role | {"MODELSMITH_HOME": request.home}
