"""Time for a window that no step of the clock opens or ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where the system has such a clock."""


class Clock:
    """This machine's clock, and a steady one beside it that began together with it."""

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        steady: Callable[[], float] = lambda: time.clock_gettime(_STEADY),
    ) -> None:
        self.wall, self.steady = wall, steady
        self._began, self._from = wall(), steady()

    def now(self) -> datetime:
        """The earlier of the clock and what it would be had nobody set it: a step forward ends no window."""
        return min(self.wall(), self._began + timedelta(seconds=self.steady() - self._from))
