"""Processes that are started apart, with a session of their own, and orphans that come to this process.

Where a container's first process is ours, every process below it whose parent ends becomes its child, and stays as a
zombie until somebody asks for its end. Children of ours are asked by whoever started them, who wants the exit code; so
only those are reaped here that nobody in this process started. The system does not tell the two apart. But what is
started within this process's own session is left alone, and what is started apart is started here, and known.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

_PROCESSES = Path("/proc")
_lock = threading.Lock()
_apart: WeakSet[subprocess.Popen[bytes]] = WeakSet()
_left: set[subprocess.Popen[bytes]] = set()


def start_apart(command: Sequence[str | Path], survives: bool = False, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own. Of one that ``survives``, nobody but `reap` asks for its end.

    Raises:
        OSError: it cannot be started.
    """
    with _lock:
        process = subprocess.Popen(command, start_new_session=True, **options)
        _apart.add(process)
        if survives:
            _left.add(process)
    return process


def reap() -> None:
    """Leave no zombie of what was left to itself, nor of orphans that came to this process."""
    with _lock:
        _left.difference_update([process for process in _left if process.poll() is not None])
        ours, mine = {process.pid for process in _apart}, _session_of(os.getpid())
        for pid in _ended_children():
            if pid not in ours and _session_of(pid) != mine:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _ended_children() -> list[int]:
    """Ids of children of this process that have ended and of whose end nobody has asked yet."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return []
    except ChildProcessError:
        return []
    parent, children = str(os.getpid()), []
    for folder in _PROCESSES.glob("[0-9]*"):
        fields = _stat_of(int(folder.name))
        if fields[:2] == ["Z", parent]:
            children.append(int(folder.name))
    return children


def _session_of(pid: int) -> str:
    return next(iter(_stat_of(pid)[3:4]), "")


def _stat_of(pid: int) -> list[str]:
    """State, parent, group and session of a process; nothing where the system does not say them here."""
    try:
        return (
            (_PROCESSES / str(pid) / "stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[:4]
        )
    except OSError:
        return []
