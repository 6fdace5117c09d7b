"""Runs a command that must not outlive whoever started it: ``python lifeline.py GRACE COMMAND...``.

The command gets a process group of its own. When standard input closes, because the starter asks for an end or has
died, the group is told to end, and what still runs after GRACE seconds is killed. When the command ends by itself, what
it left behind is killed, and its exit status is passed on (128 and the signal's number when a signal ended it).

Standard library only: it must start in no time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(grace: float, command: list[str]) -> int:
    """Run the command to its end; see the module."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    ended = threading.Event()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        _signal(process.pid, signal.SIGTERM)
        if not ended.wait(grace):
            _signal(process.pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = process.wait()
    ended.set()
    _signal(process.pid, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
