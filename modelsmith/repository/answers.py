"""Answers of git that cannot change, remembered: those about commits and trees that are named by their whole ids.

A git process takes longer to start than most answers take to find, and one decision asks the same of the same two
commits several times. What an id names never changes. What can change is kept in the key: which repository it is, what
steers git there, and where its history was cut short.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from modelsmith.repository.invocation import Place, place_of

LARGEST = 1 << 20
"""Bytes of the largest answer that is remembered."""
MOST_BYTES = 1 << 24
"""Bytes of all answers together, each counted with `_COST` more; the one that was used longest ago goes first."""
_COST = 512
_ID = re.compile(r"\^?([0-9a-f]{40}|[0-9a-f]{64})")

Key = tuple[Place, tuple[int, int] | None, tuple[str, ...]]


class Answers:
    """Outputs by question. Threads may share one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, key: Key) -> bytes | None:
        """The answer; None when it is not known."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Key, answer: bytes) -> None:
        """Remember an answer, unless it is larger than `LARGEST`."""
        if len(answer) > LARGEST:
            return
        with self._lock:
            if key not in self._kept:
                self._kept[key] = answer
                self._size += len(answer) + _COST
            while self._size > MOST_BYTES:
                self._size -= len(self._kept.popitem(last=False)[1]) + _COST


def key_of(path: Path, inside: Path | None, args: Sequence[str], ids: Sequence[str]) -> Key | None:
    """What a question is remembered by; None when one of ``ids`` is not a whole id, or nothing stands at ``path``.

    ``inside`` is where git keeps the repository; where that is not known, nothing is remembered.
    """
    place = place_of(path)
    if place is None or inside is None or not all(map(_ID.fullmatch, ids)):
        return None
    return place, _stamp(inside / "shallow"), (*args, *ids)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
