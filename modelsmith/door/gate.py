"""How many requests are under way: the others wait for their turn, and too many are turned away at once.

Callers take turns: whoever sends a thousand requests makes another caller wait for one of them, not for all. While
nobody else asks, one caller may have everything.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from modelsmith.door.refusal import Refused
from modelsmith.door.settings import Limits

ANYONE = ""
"""Whose requests all are where nobody needs a key."""


class Gate:
    """Belongs to one event loop. Of one caller, whoever waits longest goes first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By caller, whose turn is next first; none is empty."""
        self.inside = 0

    @property
    def waiting(self) -> int:
        """How many requests wait to be let in."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the block.

        Raises:
            Refused: 429 ``busy``, with the seconds after which to ask again.
        """
        if self.inside >= self._limits.at_once or self._waiting:
            await self._wait(caller)
        else:
            self.inside += 1
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, caller: str) -> None:
        own = len(self._waiting.get(caller, ()))
        most = self._limits.waiting if caller == ANYONE else -(-self._limits.waiting // 2)
        if self.waiting >= self._limits.waiting or own >= most:
            raise Refused(429, "busy", "Too many requests are under way and waiting.", after=1)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._forget(caller, turn)
            if isinstance(error, TimeoutError):
                raise Refused(429, "busy", "There was no turn in time.", after=2) from None
            raise

    def _forget(self, caller: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(caller)
        if turns and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[caller]

    def _leave(self) -> None:
        while self._waiting:
            caller, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            if turns:
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1
