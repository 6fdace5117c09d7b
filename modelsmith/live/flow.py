"""How many reports may come at once: a bucket of tokens for each cluster and key, so none uses up another's."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

REPORTS_A_SECOND: Final = 2_000
BURST: Final = 20_000

Whose = tuple[str, str]
"""A cluster, and whose key."""


class Flow:
    """The buckets of one door; for use by several threads."""

    def __init__(self) -> None:
        self._left: dict[Whose, tuple[float, float]] = {}
        """What may come at once, and when that was."""
        self._lock = threading.Lock()

    def allows(self, reports: Mapping[Whose, int], now: float) -> bool:
        """Whether so many may come now, all of them or none; ``now`` in steady seconds.

        >>> flow = Flow()
        >>> flow.allows({("desk", "ann"): BURST}, 0.0), flow.allows({("desk", "ann"): 1}, 0.0)
        (True, False)
        >>> flow.allows({("desk", "bob"): 1}, 0.0), flow.allows({("desk", "ann"): 2_000}, 1.0)
        (True, True)
        """
        with self._lock:
            remaining = {}
            for whose, number in reports.items():
                before, since = self._left.get(whose, (float(BURST), now))
                remaining[whose] = min(float(BURST), before + (now - since) * REPORTS_A_SECOND) - number
            if any(number < 0 for number in remaining.values()):
                return False
            self._left |= {whose: (number, now) for whose, number in remaining.items()}
            return True
