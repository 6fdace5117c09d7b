"""Imports without rounds of Python's garbage collector: what is imported stays, so that a round finds next to nothing.

For processes that are a command's own. Python looks at all objects again whenever so many new ones are there, and once
more as it ends; those of our modules and their libraries come to a quarter of what a short command takes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_AFTER = 50_000
"""New objects between two rounds in a command; Python's own 700 is for programs that make fewer at a time."""


@contextmanager
def importing() -> Iterator[None]:
    """No round while the block imports; what is there at its end is not looked at again."""
    gc.disable()
    try:
        yield
    finally:
        keep_all()
        gc.enable()


def keep_all() -> None:
    """Have later rounds pass over what is there now: after imports, and as a process ends, which frees its memory."""
    gc.freeze()
