"""What long work says while it runs; faces decide how to show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """One sign of life."""

    phase: str
    """Short name of the work: ``eval``, ``train``, ``promote``."""
    message: str
    """Sentence for people that says what is happening."""
    done: int = 0
    total: int = 0
    """Units finished and in all; a total of 0 means that there is nothing to count."""
    seconds_left: float | None = None
    """Seconds until all are finished, by what is known; before the first, how long it will take."""


Notify = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """A listener that discards what it hears."""
