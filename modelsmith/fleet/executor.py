"""Where jobs run: the port, and the embedded executor, which runs them on this machine.

Whoever submits a job knows its folder (`fleet.folder`) and speaks to the worker through the three verbs below only, so
nothing says that both see one disk. `tests/fleet/executor_contract.py` is what every executor keeps.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

from modelsmith.fleet import ranks, start
from modelsmith.fleet.folder import HEARTBEAT_FILE, LOG, is_whole, lines_since
from modelsmith.schema.children import start_apart
from modelsmith.schema.errors import InfrastructureFailure

_UNKILLABLE = 60.0
"""Seconds after which a killed worker is waited for no longer: one that hangs within a driver ends when that lets go.
It holds the job's folder until then, so the next worker there says that it waits in vain."""


class HostLostError(Exception):
    """A host cannot be reached, or not any more. What was fetched of its work is in the job's folder."""

    def __init__(self, host: str, why: str) -> None:
        super().__init__(f"The host {host} is lost: {why}")
        self.host, self.why = host, why


class Beats(NamedTuple):
    """Signs of life that a worker gave since the last look, and whether it has ended."""

    lines: list[bytes]
    """Lines of ``heartbeat.jsonl``, whole ones only."""
    since: int
    """Where the next call goes on."""
    status: int | None
    """Exit status once the worker has ended (negative: the signal that ended it), and then nothing more is said."""


class Submitted(Protocol):
    """A job that was submitted."""

    since: int
    """Where this worker's heartbeats begin; those of an earlier one lie before."""

    def beats(self, since: int, seconds: float) -> Beats:
        """What the worker said since; waits this long for its end. Asked again from there, it says the same again.

        Raises:
            HostLostError: its host is lost for longer than a worker there goes on by itself.
        """
        ...

    def fetch(self) -> bool:
        """Bring what the worker left (result, or error and log) into the job's folder here.

        Whether that holds a result, every file of it as it was made: a damaged one is none.

        Raises:
            HostLostError: as `beats`.
        """
        ...

    def stop(self, grace: float) -> None:
        """Ask the worker to put its work away and end; what still runs after ``grace`` seconds is killed."""
        ...


class Executor(Protocol):
    """Runs jobs on some host."""

    def submit(self, folder: Path) -> Submitted:
        """Give the job's folder to the host and start its worker there, in a process that imports nothing from there.

        What an earlier worker put away in the folder is the next one's to go on from. Never do two work in it at once:
        of a job that was submitted twice, the second worker waits for the first.

        The worker has a lifeline: when the one who submitted asks for a stop or has died, it puts its work away and
        ends.

        Raises:
            InfrastructureFailure: ``worker-start``.
            HostLostError: the host cannot be reached.
        """
        ...


class LocalExecutor:
    """This machine: a child process in a session of its own, so that Ctrl-C reaches the supervisor only."""

    def __init__(self, module: str, *places: Path, devices: int = 1) -> None:
        """Run this module of the toolkit on every folder that is submitted.

        Args:
            module: The worker's.
            places: Where this machine keeps what the job names by digest; the worker is told them after the folder,
                and checks.
            devices: In how many processes it runs, which work together; see `fleet.ranks`.
        """
        run = [module] if devices == 1 else [ranks.__name__, str(devices), module]
        self._run, self._places = run, places

    def submit(self, folder: Path) -> Submitted:
        """Start the worker; its output goes to ``worker.log`` in the folder.

        Raises:
            InfrastructureFailure: ``worker-start``.
        """
        lines = folder / HEARTBEAT_FILE
        try:
            since = lines.stat().st_size if lines.exists() else 0
            with (folder / LOG).open("ab") as log:
                process = start_apart(
                    [sys.executable, "-P", start.__file__, *self._run, folder, *self._places],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=os.environ | {"HF_HUB_OFFLINE": "1"},
                )
        except OSError as error:
            raise InfrastructureFailure(
                "worker-start",
                "The training worker could not be started.",
                "Check free disk space and memory.",
                reason=str(error),
            ) from error
        return _LocalJob(folder, since, process)


class _LocalJob:
    """See `Submitted`. The folder is the very one that the worker writes in, so nothing needs to be brought."""

    def __init__(self, folder: Path, since: int, process: subprocess.Popen[bytes]) -> None:
        self.since = since
        self._folder, self._process = folder, process

    def beats(self, since: int, seconds: float) -> Beats:
        status = self._wait(seconds)
        lines, since = lines_since(self._folder / HEARTBEAT_FILE, since)
        return Beats(lines, since, status)

    def fetch(self) -> bool:
        return is_whole(self._folder)

    def stop(self, grace: float) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._wait(grace)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._wait(_UNKILLABLE)

    def _wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
