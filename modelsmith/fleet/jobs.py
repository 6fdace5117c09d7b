"""Long operations that go on without whoever asked for them: what is kept of each, and whether it still runs.

A job is a folder under the clone's private one. Its process holds a lock on a file there from before it starts until
it ends, however it ends, so nothing but the lock says that it runs: no process id that another process may have by now,
and nothing that is still there after a reboot. Jobs of one cluster run one after another, in the order in which they
were asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from filelock import FileLock
from pydantic import AwareDatetime, JsonValue, StringConstraints, ValidationError

from modelsmith.fleet import start
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.steps import step
from modelsmith.signing.files import write_atomically

JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
"""``done`` has a result, whatever it says; ``failed`` has an error; ``interrupted`` has neither, and nothing runs."""

_ASKED, _BEGAN, _ENDED, _LOCK, _PID, LOG, PROGRESS = (
    "job.json", "began", "ended.json", "lock", "pid", "log", "progress.json",
)  # fmt: skip
_RUNNER = "modelsmith.operations.run_job"
ROLE = "MODELSMITH_ROLE"
"""Environment variable with the role of whoever asked; none where a person did."""
MOST_AT_ONCE = 16
"""Jobs that run or wait in one clone; each of them is a process."""
_WAIT = 60.0
"""Seconds that whoever asks for a job waits for others who do."""


class Asked(Frozen):
    """``job.json``: what was asked for."""

    id: JobId
    operation: str
    arguments: dict[str, JsonValue]
    cluster: str
    at: AwareDatetime


class Ended(Frozen):
    """``ended.json``: what came of it."""

    exit: int
    """Exit code of the command line for the same."""
    result: dict[str, JsonValue] | None
    error: dict[str, JsonValue] | None
    """``code``, ``message``, ``mend``."""
    at: AwareDatetime


class Job(NamedTuple):
    """A job as it stands."""

    asked: Asked
    folder: Path
    state: JobState
    ended: Ended | None


class Jobs:
    """The jobs of one clone."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.private / "jobs"

    def submit(self, operation: str, arguments: Mapping[str, Any], cluster: str) -> Job:
        """Start a job, or give the one that is at this very request; one that was interrupted goes on.

        Raises:
            InfrastructureFailure: ``job-start``; ``too-many-jobs``.
        """
        with self._alone():
            known = self.all()
            for job in reversed(known):
                if (job.asked.operation, job.asked.arguments) == (operation, dict(arguments)):
                    if job.state in ("queued", "running"):
                        return job
                    if job.state == "interrupted":
                        return self._start(job.folder, job.asked)
                    break
            if sum(job.state in ("queued", "running") for job in known) >= MOST_AT_ONCE:
                raise InfrastructureFailure(
                    "too-many-jobs",
                    f"{MOST_AT_ONCE} jobs run or wait already",
                    "Wait until some have ended, or cancel one: `{next}`.",
                    most=MOST_AT_ONCE,
                ).then(step("jobs list", {}))
            asked = Asked(
                id=self._new_id(),
                operation=operation,
                arguments=dict(arguments),
                cluster=cluster,
                at=datetime.now(UTC),
            )
            folder = self._folder / asked.id
            folder.mkdir(parents=True)
            write_atomically(folder / _ASKED, asked.model_dump_json().encode())
            return self._start(folder, asked)

    def resume(self, id: str) -> Job:
        """Let an interrupted or cancelled job go on; one that runs is left alone.

        Raises:
            InvalidInput: ``unknown-job``, ``job-ended``.
            InfrastructureFailure: ``job-start``.
        """
        with self._alone():
            job = self.find(id)
            if job.state in ("queued", "running"):
                return job
            if job.state in ("done", "failed"):
                raise InvalidInput(
                    "job-ended", f"Job {id} has ended", "Ask for the operation again: that is another job.", job=id
                )
            return self._start(job.folder, job.asked)

    def cancel(self, id: str, grace: float) -> Job:
        """Ask the job's process to put its work away; kill it after so many seconds. A job that has ended stays so.

        Raises:
            InvalidInput: ``unknown-job``.
        """
        job = self.find(id)
        if job.state not in ("queued", "running"):
            return job
        until = time.monotonic() + grace
        pid = _pid(job.folder)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        while _is_held(job.folder) and time.monotonic() < until:
            time.sleep(0.05)
        if pid and _is_held(job.folder):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            while _is_held(job.folder):
                time.sleep(0.05)
        if not (job.folder / _ENDED).exists():
            ended(job.folder, 130, None, None)
        return self.find(id)

    def find(self, id: str) -> Job:
        """The job of that id.

        Raises:
            InvalidInput: ``unknown-job``.
        """
        found = next((job for job in self.all() if job.asked.id == id), None)
        if found is None:
            raise InvalidInput(
                "unknown-job", f"No job {id[:40]!a} in this clone", "`{next}` lists them.", job=id[:40]
            ).then(step("jobs list", {}))
        return found

    def all(self) -> list[Job]:
        """Every job, in the order in which they were asked for."""
        folders = [Path(one) for one in os.scandir(self._folder)] if self._folder.is_dir() else []
        jobs = [job for folder in folders if (job := _read(folder))]
        return sorted(jobs, key=lambda job: (job.asked.at, job.asked.id))

    def before(self, asked: Asked) -> list[Job]:
        """Jobs that this one waits for: of the same cluster, at work, or asked for earlier and waiting too."""
        mine = (asked.at, asked.id)
        return [
            job
            for job in self.all()
            if job.asked.cluster == asked.cluster
            and job.asked.id != asked.id
            and (job.state == "running" or (job.state == "queued" and (job.asked.at, job.asked.id) < mine))
        ]

    def take_turn(self, job: Job) -> bool:
        """Begin the job where it waits for none; no two take their turn at once."""
        with self._alone():
            if self.before(job.asked):
                return False
            write_atomically(job.folder / _BEGAN, datetime.now(UTC).isoformat().encode())
            return True

    def _new_id(self) -> str:
        while (self._folder / (made := secrets.token_hex(4))).exists():
            pass
        return made

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder.with_suffix(".lock"), timeout=_WAIT):
            yield

    def _start(self, folder: Path, asked: Asked) -> Job:
        """The lock is taken here and handed to the process, so at no moment does a job that was started look dead."""
        for name in (_BEGAN, _ENDED, _PID, PROGRESS):
            (folder / name).unlink(missing_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with (folder / LOG).open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-P", start.__file__, _RUNNER, str(self._workspace.root), asked.id],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env=_environment(self._workspace),
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            write_atomically(folder / _PID, str(process.pid).encode())
        except OSError as error:
            raise InfrastructureFailure(
                "job-start", "The job's process could not be started", "Check free disk space and memory."
            ) from error
        finally:
            os.close(lock)
        _ours.append(process)
        return Job(asked, folder, "queued", None)


def _environment(workspace: Workspace) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != ROLE}
    role = {ROLE: workspace.role} if workspace.role else {}
    return kept | role | {"MODELSMITH_HOME": str(workspace.home)}


_ours: list[subprocess.Popen[bytes]] = []
"""Processes that this one started: asked for their end now and then, so that none stays behind as a zombie."""


def ended(folder: Path, code: int, result: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
    """Note what came of the job."""
    found = Ended(
        exit=code, result=dict(result) if result else None, error=dict(error) if error else None, at=datetime.now(UTC)
    )
    write_atomically(folder / _ENDED, found.model_dump_json().encode())


def _read(folder: Path) -> Job | None:
    """The job of a folder; None for one that a killed process had only begun to write."""
    for process in [one for one in _ours if one.poll() is not None]:
        _ours.remove(process)
    try:
        asked = Asked.model_validate_json((folder / _ASKED).read_bytes())
    except (OSError, ValidationError):
        return None
    if _is_held(folder):
        return Job(asked, folder, "running" if (folder / _BEGAN).exists() else "queued", None)
    try:
        found = Ended.model_validate_json((folder / _ENDED).read_bytes())
    except (OSError, ValidationError):
        return Job(asked, folder, "interrupted", None)
    state: JobState = "cancelled" if found.exit == 130 else "failed" if found.error else "done"
    return Job(asked, folder, state, found)


def _is_held(folder: Path) -> bool:
    """Whether the job's process has its lock; looked at with a shared one, so that those who look never collide."""
    try:
        file = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _pid(folder: Path) -> int | None:
    try:
        return int((folder / _PID).read_bytes())
    except (OSError, ValueError):
        return None
