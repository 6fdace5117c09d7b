"""An event loop in a thread of its own, so that asynchronous work can feed a plain iterator."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Emit = Callable[[Item], Awaitable[None]]
"""Hands one item to the reader; waits while the reader is too far behind."""

_END: Final = object()


class LoopThread:
    """Starts its thread when it is made; `close` cancels what still runs, puts away and ends the thread."""

    def __init__(self, name: str, put_away: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._put_away = put_away
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stream(self, produce: Callable[[Emit[Item]], Coroutine[Any, Any, None]], ahead: int) -> Iterator[Item]:
        """Items as the producer emits them; at most ``ahead`` wait for the reader.

        What the producer raises is raised here, after the items that it emitted before. A reader that stops, by an
        exception or by closing the iterator, cancels the producer.
        """
        ready: SimpleQueue[Any] = SimpleQueue()
        room = asyncio.Semaphore(ahead)

        async def emit(item: Item) -> None:
            await room.acquire()
            ready.put(item)

        future = asyncio.run_coroutine_threadsafe(produce(emit), self._loop)
        future.add_done_callback(lambda _: ready.put(_END))
        count = 0
        try:
            while (item := ready.get()) is not _END:
                count += 1
                if 2 * count >= ahead:
                    self._tell(partial(_release, room, count))
                    count = 0
                yield item
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End the loop and wait for the thread; calling it again does nothing."""
        if self._thread.is_alive():
            self._tell(self._loop.stop)
            self._thread.join()

    def _tell(self, call: Callable[[], None]) -> None:
        """Wakes the loop, which costs both threads a switch: told in large pieces."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._put_away())
            self._loop.close()


def _release(room: asyncio.Semaphore, count: int) -> None:
    for _ in range(count):
        room.release()
