"""Work that no request waits for, in a thread of its own, many things at once.

Waking a thread for each request costs more than what it does then: the two take the interpreter from each other. So
the thread wakes by itself, now and then, and takes all that has come.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Behind(Generic[T]):
    """Takes things from any thread, and has them done in their order; what cannot be done is left out."""

    def __init__(self, name: str, pause: float, do: Callable[[Sequence[T]], None], most: int | None = None) -> None:
        """Start the thread.

        Args:
            name: The thread's.
            pause: Seconds between two looks at what has come.
            do: What is done with them.
            most: Things in memory at most; the oldest are dropped.
        """
        self._pause, self._do = pause, do
        self._waiting: deque[T] = deque(maxlen=most)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Have it done, later. Neither waits nor raises."""
        self._waiting.append(item)

    def close(self) -> None:
        """Do what waits, and end."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            self._take()
        self._take()

    def _take(self) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            if batch:
                self._do(batch)
        except Exception:  # a thread that ends would do nothing more, and nobody would hear of it
            _log.exception("%s: something could not be done", self._thread.name)
