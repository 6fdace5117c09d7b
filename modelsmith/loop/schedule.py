"""Iterations by the clock: every so often, within a window of the day, until something registered says stop.

When to begin is pure; only `wait` sleeps. An iteration that is under way when a window closes or a budget ends is
finished: it is what the budget was for, and a kill costs nothing either way.
"""

from __future__ import annotations

import re
import time as clock
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.progress import Notify, Progress

DURATION: Final = r"^[1-9][0-9]{0,4}(m|h|d)$"
WINDOW: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_NAP: Final = 30.0


@dataclass(frozen=True)
class Schedule:
    """Rule by which turns begin: how often, and between which times."""

    every: timedelta | None = None
    """From one beginning to the next; None: as soon as the last has ended."""
    window: tuple[time, time] | None = None
    """Times of the local day between which a turn may begin; past midnight where the first is the later."""

    def due(self, now: datetime, started: datetime | None) -> datetime:
        """When the next turn begins: not before ``now``, and within the window.

        >>> night = Schedule(window=(time(22), time(6)))
        >>> night.due(datetime(2026, 5, 1, 12), None)
        datetime.datetime(2026, 5, 1, 22, 0)
        >>> night.due(datetime(2026, 5, 2, 3), None)
        datetime.datetime(2026, 5, 2, 3, 0)
        """
        at = max(now, started + self.every) if started and self.every else now
        return at if self.window is None or _within(at.time(), self.window) else _opening(at, self.window[0])


def parse(every: str | None, between: str | None) -> Schedule | None:
    """The schedule in a request's words; None without any.

    >>> parse("90m", None).every
    datetime.timedelta(seconds=5400)

    Raises:
        InvalidInput: ``empty-window``.
    """
    if every is None and between is None:
        return None
    window = None
    if between is not None:
        first, last = (time.fromisoformat(part) for part in between.split("-"))
        if first == last:
            raise InvalidInput(
                "empty-window", f"The window {between} is empty", "Give two different times.", between=between
            )
        window = (first, last)
    if every is None:
        return Schedule(None, window)
    number, unit = re.fullmatch(r"(\d+)(.)", every).groups()  # type: ignore[union-attr]
    return Schedule(timedelta(**{_UNITS[unit]: int(number)}), window)


def wait(schedule: Schedule, started: datetime | None, notify: Notify) -> None:
    """Sleep until the next turn, in naps, asking the local clock anew: it may be set, and the machine may sleep.

    A turn that seems to have begun later than now began now: the clock was set back, by a year perhaps.
    """
    announced = None
    while True:
        now = datetime.now()
        started = started and min(started, now)
        due = schedule.due(now, started)
        if due <= now:
            return
        if due != announced:
            notify(Progress("iterate", f"the next turn begins at {due:%Y-%m-%d %H:%M}"))
            announced = due
        clock.sleep(min((due - now).total_seconds(), _NAP))


def _within(at: time, window: tuple[time, time]) -> bool:
    first, last = window
    return first <= at < last if first < last else at >= first or at < last


def _opening(at: datetime, first: time) -> datetime:
    today = datetime.combine(at.date(), first, at.tzinfo)
    return today if today >= at else today + timedelta(days=1)
