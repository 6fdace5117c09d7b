"""How many requests are under way at once: all that is allowed, and fewer while the server pushes back."""

from __future__ import annotations

import asyncio
from collections import deque


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, below a ceiling. Pure state: no clock, no loop.

    A push-back halves the limit, once for all requests that were under way together; each full round of answers
    raises it by one.
    """

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._value = float(ceiling)
        self.epoch = 0
        """Number of cuts so far; a request remembers the one in which it was sent."""

    @property
    def now(self) -> int:
        """Requests that may be under way."""
        return int(self._value)

    def answered(self) -> None:
        """A request was answered."""
        self._value = min(self._ceiling, self._value + 1 / self._value)

    def pushed_back(self, epoch: int) -> None:
        """The server refused for want of capacity a request that was sent in this epoch."""
        if epoch == self.epoch:
            self._value = max(1.0, self._value / 2)
            self.epoch += 1


class Gate:
    """Lets as many requests through as the limit says, and none while the server has asked everyone to wait.

    It belongs to one event loop.
    """

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self._inside = 0
        self._pauses = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """Wait for room; returns the epoch to leave with."""
        while self._pauses or self._inside >= self._limit.now:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake()
                raise
        self._inside += 1
        return self._limit.epoch

    def leave(self, epoch: int, *, answered: bool, pushed_back: bool) -> None:
        """Give the room back, and say what became of the request."""
        self._inside -= 1
        if answered:
            self._limit.answered()
        elif pushed_back:
            self._limit.pushed_back(epoch)
        self._wake()

    def pause(self) -> None:
        """Let nobody in until `resume` has been called as often."""
        self._pauses += 1

    def resume(self) -> None:
        """End one pause, and let waiting requests in after the last."""
        self._pauses -= 1
        self._wake()

    def _wake(self) -> None:
        room = 0 if self._pauses else self._limit.now - self._inside
        while room > 0 and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1
