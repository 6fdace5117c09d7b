"""Notices that something has happened, once for everyone who listens: whoever wakes reads the ledger by a cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from modelsmith.schema.errors import ModelsmithError

if TYPE_CHECKING:
    from modelsmith.repository.workspace import Workspace

EVERY = 0.5
"""Seconds between two looks at the ledger, while somebody listens."""


class Watch:
    """Looks at the end of one clone's ledger.

    Other processes write the ledger, so it is asked and does not call. It says only that there is more: no event is
    held in memory for anybody, and a listener that was late misses nothing.
    """

    def __init__(self, start: Path) -> None:
        """Watch the clone that ``start`` lies in; it is looked for when somebody listens."""
        self._start = start
        self._workspace: Workspace | None = None
        self._last_end: str | None = None
        self._changes = 0
        self.listeners = 0
        """How many want to know; with none, nothing is looked at."""
        self.wake = anyio.Event()
        """Set when there is more. Take it before reading, so that what comes while you read is not slept through."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Have the ledger watched for the block."""
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    def news(self) -> AsyncIterator[None]:
        """A step each time there is more than now, or than at the step before.

        What comes while nobody takes a step is one step.
        """
        return self._news(self._changes)

    async def _news(self, reported: int) -> AsyncIterator[None]:
        while True:
            wake = self.wake
            if reported == self._changes:
                await wake.wait()
            reported = self._changes
            yield

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await anyio.sleep(EVERY)
            if self.listeners and (end := await anyio.to_thread.run_sync(self._look)) != self._last_end:
                self._last_end = end
                self._changes += 1
                self.wake.set()
                self.wake = anyio.Event()

    def _look(self) -> str | None:
        """The end of the ledger; what was seen last where it cannot be read now."""
        from modelsmith.operations.events import newest
        from modelsmith.repository.workspace import Workspace

        try:
            self._workspace = self._workspace or Workspace.find(self._start)
            return newest(self._workspace)
        except ModelsmithError:
            return self._last_end
