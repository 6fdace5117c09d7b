"""What every worker does, whatever its job: one at a time in a folder, and none without its starter."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

STOPPED = 75
"""Exit status of a worker that was asked to stop and has put its work away."""
STOP_GRACE = 120.0
"""Seconds that an orphaned worker may need to put its work away."""
LOCK = ".worker.lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other worker works in the folder, such as one that an earlier starter left behind.

    Raises:
        TimeoutError: one still does, long after it should have put its work away.
    """
    with FileLock(folder / LOCK, timeout=STOP_GRACE + 30):
        yield


def follow_lifeline(stop: threading.Event) -> None:
    """When standard input is a pipe and closes, ask for a stop, and end by force if that takes too long."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def wait() -> None:
        while os.read(0, 4096):
            pass
        stop.set()
        time.sleep(STOP_GRACE)
        os._exit(STOPPED)

    threading.Thread(target=wait, daemon=True).start()
