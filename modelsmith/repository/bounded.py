"""Memories of what was read or found that never grow past a limit. Pure."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Values by key whose costs together stay below a limit: those that nobody asked for longest make room.

    The latest is kept whatever it costs.

    >>> kept = Bounded[str, int](2)
    >>> for key, value in (("one", 1), ("two", 2), ("three", 3)):
    ...     _ = kept.keep(key, value)
    >>> "one" in kept, kept.get("three")
    (False, 3)
    """

    def __init__(self, most: int) -> None:
        """Remember nothing yet. ``most`` is the sum of the costs, in the caller's unit."""
        self._left = most
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value that is remembered under a key; None without one."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def keep(self, key: K, value: V, cost: int = 1) -> V:
        """Remember a value, and return it."""
        if key in self._entries:
            self._left += self._entries.pop(key)[1]
        self._left -= cost
        while self._left < 0 and self._entries:
            self._left += self._entries.popitem(last=False)[1][1]
        self._entries[key] = value, cost
        return value


class Recent(Generic[K]):
    """Things that were seen, at most so many: those that were neither seen nor asked for longest are forgotten first.

    Concurrency: several threads may use one at the same time.

    >>> recent = Recent[str](2)
    >>> for thing in ("one", "two", "three"):
    ...     recent.add(thing)
    >>> "one" in recent, "three" in recent
    (False, True)
    """

    def __init__(self, most: int) -> None:
        """Nothing was seen yet. ``most`` is how many things are remembered."""
        self._most = most
        self._seen: OrderedDict[K, None] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, item: K) -> bool:
        with self._lock:
            return self._newest(item)

    def add(self, item: K) -> None:
        """Remember an item."""
        with self._lock:
            self._seen[item] = None
            self._newest(item)
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)

    def _newest(self, item: K) -> bool:
        """Put it at the end that is forgotten last; whether it is there."""
        if item not in self._seen:
            return False
        self._seen.move_to_end(item)
        return True
