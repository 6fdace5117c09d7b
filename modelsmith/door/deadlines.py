"""Many waits of one length with one timer: a timer for each request costs more than all that it guards against."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

_GRACE: Final = 0.01
"""Seconds of one turn, before who is late is told: a process that had no processor for long finds timers and bytes due
at once, and what has come by then is first given to whoever waits for it."""


class Deadlines:
    """Deadlines of one event loop: wakes each waiter whose time is over.

    All waits are equally long, so the one that began first ends first: the timer is set for that one alone. It stays
    set where that one has come to its end, and looks then who is first.
    """

    def __init__(self, seconds: float, turns: int = 2) -> None:
        """Waits of so many seconds, and of so many turns of the event loop after them."""
        self._seconds, self._turns = seconds, turns
        self._waiting: dict[int, tuple[float, Callable[[], None]]] = {}
        self._late: dict[int, Callable[[], None]] = {}
        """Whose time is over, and who are told in a moment."""
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, late: Callable[[], None]) -> int:
        """Begin a wait; ``late`` is called once where it is not ended in time. Returns its number, for `end`."""
        loop, number = asyncio.get_running_loop(), next(self._numbers)
        end = loop.time() + self._seconds
        self._waiting[number] = end, late
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)
        return number

    def end(self, number: int) -> None:
        """End a wait, whether or not it was too long."""
        self._waiting.pop(number, None)
        self._late.pop(number, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now, self._timer = loop.time(), None
        late = []
        for number, (end, _) in self._waiting.items():
            if end > now:
                self._timer = loop.call_at(end, self._look)
                break
            late.append(number)
        for number in late:
            self._late[number] = self._waiting.pop(number)[1]
        if late:
            loop.call_later(_GRACE, self._tell, late, self._turns - 1)

    def _tell(self, late: list[int], reports_left: int) -> None:
        if reports_left:
            asyncio.get_running_loop().call_later(_GRACE, self._tell, late, reports_left - 1)
            return
        for number in late:
            if tell := self._late.pop(number, None):
                tell()
