"""Keeps one worker on the host, whatever becomes of connections: its parent, and the other end of its lifeline.

The session of whoever submitted touches the leash while it hears from them. Where nobody has for the stated time, or a
stop was asked for, the worker is asked to put its work away. The keeper holds two locks as long as it lives: the
host's, so that one job works there at a time, and its run's, by whose release others see that it has ended.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

from modelsmith.fleet.executor import LocalExecutor, Submitted
from modelsmith.fleet.worker import STOP_GRACE
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.signing.files import write_atomically

POLL = 0.1
"""Seconds between two looks at leash and stop."""


class Ended(Frozen):
    """How a run ended."""

    status: int | None
    """The worker's exit status, as `executor.Beats.status`; None where no worker could be started."""
    why: str = ""


class Run(NamedTuple):
    """Where one run's signs lie, outside of the job's folder."""

    control: Path
    name: str

    @property
    def leash(self) -> Path:
        """Touched while the submitter is heard."""
        return self.control / f"{self.name}.leash"

    @property
    def up(self) -> Path:
        """There when the worker was started."""
        return self.control / f"{self.name}.up"

    @property
    def stop(self) -> Path:
        """Says after how many seconds a worker that was asked to stop is killed."""
        return self.control / f"{self.name}.stop"

    @property
    def ended(self) -> Path:
        """An `Ended`."""
        return self.control / f"{self.name}.json"

    @property
    def lock(self) -> Path:
        """Held by the keeper."""
        return self.control / f"{self.name}.lock"


def keep(run: Run, folder: Path, patience: float, executor: LocalExecutor) -> None:
    """Start the worker and stay until it has ended."""
    try:
        worker = executor.submit(folder)
    except InfrastructureFailure as error:
        _note(run, Ended(status=None, why=str(error.details.get("reason", error.message))[:300]))
        return
    run.up.touch(mode=0o600)
    _note(run, Ended(status=_follow(run, worker, patience)))


def _follow(run: Run, worker: Submitted, patience: float) -> int | None:
    since, last_touch, last_heard = worker.since, _touched(run.leash), time.monotonic()
    while True:
        since, status = worker.beats(since, POLL)[1:]
        if status is not None:
            return status
        touched = _touched(run.leash)
        if touched != last_touch:
            last_touch, last_heard = touched, time.monotonic()
        grace = _grace(run.stop)
        if grace is None and time.monotonic() - last_heard > patience:
            grace = STOP_GRACE
        if grace is not None:
            worker.stop(grace)


def _touched(leash: Path) -> int:
    try:
        return leash.stat().st_mtime_ns
    except OSError:
        return 0


def _grace(stop: Path) -> float | None:
    try:
        return float(stop.read_text())
    except (OSError, ValueError):
        return None


def _note(run: Run, ended: Ended) -> None:
    """Say how it ended; where there is no room to say it, the released lock says that it has."""
    write_atomically(run.ended, canonical_json(ended))


def main(control: str, name: str, folder: str, patience: str, devices: str, module: str, *places: str) -> None:
    """Keep a worker that runs this module of the toolkit, in so many processes that work together."""
    executor = LocalExecutor(module, *map(Path, places), devices=int(devices))
    keep(Run(Path(control), name), Path(folder), float(patience), executor)


if __name__ == "__main__":
    main(*sys.argv[1:])
