"""What an `iterate` says while it runs, noted beside the clone's state, so that others can see how far it is."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.progress import Progress
from modelsmith.signing.files import write_atomically

EVERY_SECONDS = 1.0
"""How often a sign of life is noted."""


class Running(Frozen):
    """The last sign of life."""

    phase: str
    message: str
    done: int
    total: int
    """Units finished and in all; a total of 0 means that there is nothing to count."""
    begun: int
    """Units that were finished when this work began."""
    since: AwareDatetime
    """When it began."""
    at: AwareDatetime

    @property
    def seconds_left(self) -> float | None:
        """How long the work takes from now if it goes on as it did; None while nobody can know."""
        completed, spent = self.done - self.begun, (self.at - self.since).total_seconds()
        return spent / completed * (self.total - self.done) if completed > 0 and self.total else None


def noting(workspace: Workspace, cluster: str) -> Workspace:
    """The workspace, whose signs of life are noted beside the cluster's state as well."""
    return noting_in(workspace, _path(workspace, cluster))


def noting_in(workspace: Workspace, path: Path) -> Workspace:
    """The workspace, whose signs of life are noted in a file as well; where that cannot be written, nothing is."""
    tell = workspace.notify
    last: Running | None = None

    def notify(progress: Progress) -> None:
        nonlocal last
        tell(progress)
        now = datetime.now(UTC)
        same = last is not None and (last.phase, last.total) == (progress.phase, progress.total)
        if last and same and progress.done < progress.total and (now - last.at).total_seconds() < EVERY_SECONDS:
            return
        done_at_start, since = (last.begun, last.since) if last and same else (progress.done, now)
        phase, message, done, total, _ = progress
        last = Running(phase=phase, message=message, done=done, total=total, begun=done_at_start, since=since, at=now)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, last.model_dump_json().encode())

    return replace(workspace, notify=notify)


def running(workspace: Workspace, cluster: str) -> Running | None:
    """Last progress of the process that iterates the cluster; None when no process does."""
    if not workspace.is_locked(f"iterate-{cluster}"):
        return None
    if last := read_running(_path(workspace, cluster)):
        return last
    now = datetime.now(UTC)
    return Running(phase="iterate", message="", done=0, total=0, begun=0, since=now, at=now)


def read_running(path: Path) -> Running | None:
    """What was noted in the file last; None where nothing was, or nothing that can be read."""
    try:
        return Running.model_validate_json(read_plain(path))
    except (OSError, ValidationError):
        return None


def _path(workspace: Workspace, cluster: str) -> Path:
    return workspace.cluster_folder(cluster) / "progress.json"
