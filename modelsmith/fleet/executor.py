"""Where jobs run. A job is a Python module that works on one folder; the embedded executor runs it on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from modelsmith.fleet import start
from modelsmith.schema.errors import InfrastructureFailure

LOG = "worker.log"
"""Output of the worker, in the job's folder."""


class Running(Protocol):
    """A job that was started."""

    def wait(self, seconds: float) -> int | None:
        """Exit status (negative: the signal that ended it), or None when it still runs after this time."""
        ...

    def stop(self, grace: float) -> None:
        """Ask it to put its work away and end; what still runs after ``grace`` seconds is killed."""
        ...


class Executor(Protocol):
    """Runs jobs on some host."""

    def start(self, module: str, folder: Path) -> Running:
        """Run the toolkit's module on the folder, in a process that imports nothing from there.

        The worker's standard input is its lifeline: when it closes, because the starter asks for a stop or has died,
        the worker puts its work away and ends.
        """
        ...


class LocalExecutor:
    """This machine: a child process in a session of its own, so that Ctrl-C reaches the supervisor only."""

    def start(self, module: str, folder: Path) -> Running:
        """Start the job; its output goes to ``worker.log`` in the folder.

        Raises:
            InfrastructureFailure: ``worker-start``.
        """
        try:
            with (folder / LOG).open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-P", start.__file__, module, str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=os.environ | {"HF_HUB_OFFLINE": "1"},
                    start_new_session=True,
                )
        except OSError as error:
            raise InfrastructureFailure(
                "worker-start",
                "The training worker could not be started.",
                "Check free disk space and memory.",
                reason=str(error),
            ) from error
        return _LocalProcess(process)


class _LocalProcess:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace: float) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self.wait(grace)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
