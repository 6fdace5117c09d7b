"""How much of the door one backend may hold, so that a slow one fills its own part and leaves the rest to others.

A request that waits for its answer holds a turn and connections. A backend that never answers would hold all of them in
the end: then nobody is answered, and nothing is left to compare it with. It is the bulkhead of M. Nygard's *Release
It!*, sized by the share: whoever is due a share of the turns may hold that, half of the rest, and a few more, so that
chance alone leads nobody there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from modelsmith.door.refusal import Down

CROWDED: Final = "crowded"
"""Why a backend was not asked that has its part of the door under way already."""
_MORE: Final = 8
"""Turns beyond that. Where all turns are always taken, and both sides are equally fast, chance alone (a binomial
distribution) leads a side there less than once in a million requests, at any share and with any number of turns."""


def part(turns: int, share: float) -> int:
    """How many turns a caller may hold whose due share of the requests is this."""
    return min(turns, math.ceil(turns * (1 + share) / 2) + _MORE)


class Holding:
    """Requests that specialists under watch have under way. Belongs to one event loop."""

    def __init__(self) -> None:
        self._held: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def slot(self, cluster: str, specialist: str, most: int) -> Iterator[None]:
        """Ask it for one answer, while it has at most so many under way.

        Raises:
            Down: ``crowded``: it holds its part already. That is its failure, as it is slower than the others by far.
        """
        key = (cluster, specialist)
        if self._held[key] >= most:
            raise Down(503, CROWDED, again=False)
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
