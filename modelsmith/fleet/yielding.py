"""Work that shares a machine with a front door: between two steps it waits until the door is within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from modelsmith.fleet.doors import Busy, busy_doors
from modelsmith.schema.beside import BesideServing

_LOOK: Final = 0.1
"""Seconds between two looks at the doors while work waits."""
TOLD_EVERY: Final = 10.0
"""Seconds between two words about a wait."""


def over(budget: BesideServing, doors: Sequence[Busy]) -> str | None:
    """Why work has to wait now, in words; None where it may go on. Pure."""
    most = max((door.requests for door in doors), default=0)
    if budget.requests is not None and most > budget.requests:
        return f"it has {most} requests, and {budget.requests} are the budget"
    slowest = max((door.p95 for door in doors if door.p95 is not None), default=0.0)
    if budget.p95_milliseconds is not None and slowest > budget.p95_milliseconds:
        return f"the p95 of its answers is {slowest:.0f} ms, and {budget.p95_milliseconds:g} ms are the budget"
    return None


class Yielding:
    """Waits between steps of one piece of work.

    Args:
        budget: What is left to the doors.
        folder: Where they say how busy they are.
        look: The doors that live, from that folder.
        clock: Steady seconds.
        sleep: Waits for so many seconds at most; whether the wait is to end because the work is asked to stop.
    """

    def __init__(
        self,
        budget: BesideServing,
        folder: Path,
        sleep: Callable[[float], bool],
        look: Callable[[Path], Sequence[Busy]] = busy_doors,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget, self._folder, self._sleep, self._look, self._clock = budget, folder, sleep, look, clock
        self._worked_since = clock()

    def wait(self, say: Callable[[str, float], None]) -> float:
        """Wait until a step may begin, or the work is asked to stop; the seconds that this took.

        ``say`` hears why, and for how long already: at once, and again every ten seconds.
        """
        began = self._clock()
        owed, last_report = began + self._owed(began - self._worked_since), -TOLD_EVERY
        while True:
            doors, now = self._look(self._folder), self._clock()
            why = over(self._budget, doors)
            if why is None and now < owed and _answers(doors):
                why = f"it answers requests, and steps have {self._budget.share:.0%} of the time"
            if why is None:
                break
            if now - began - last_report >= TOLD_EVERY:
                last_report = now - began
                say(why, last_report)
            if self._sleep(_LOOK):
                break
        self._worked_since = self._clock()
        return self._worked_since - began

    def _owed(self, worked: float) -> float:
        share = self._budget.share
        return 0.0 if share is None else worked * (1 - share) / share


def _answers(doors: Sequence[Busy]) -> bool:
    return any(door.requests or door.answers for door in doors)
