"""How many requests are under way: the others wait for their turn, and too many are turned away at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from modelsmith.door.refusal import Refused
from modelsmith.door.settings import Limits


class Gate:
    """Belongs to one event loop. Whoever waits longest goes first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.inside = 0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the block.

        Raises:
            Refused: 429 ``busy``, with the seconds after which to ask again.
        """
        if self.inside >= self._limits.at_once or self._waiting:
            await self._wait()
        else:
            self.inside += 1
        try:
            yield
        finally:
            self._leave()

    async def _wait(self) -> None:
        if len(self._waiting) >= self._limits.waiting:
            raise Refused(429, "busy", "Too many requests are under way and waiting.", after=1)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                with suppress(ValueError):
                    self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Refused(429, "busy", "There was no turn in time.", after=2) from None
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1
