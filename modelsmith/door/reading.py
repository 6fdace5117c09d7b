"""A stream read as fast as its backend sends it, however slowly the caller takes it: so its time is the backend's."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

MOST: Final = 1 << 20
"""Bytes that wait for the caller; the backend waits, too, when there are more."""


class Ahead:
    """Pieces in their order, and then the failure where the stream broke off. A context: left, it reads no more."""

    def __init__(self, pieces: AsyncIterator[bytes], most: int = MOST) -> None:
        self._pieces, self._most = pieces, most
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._failed: Exception | None = None
        self._over = False
        self._reader: asyncio.Task[None] | None = None
        self.whole_at: float | None = None
        """When the last piece had come, by `time.perf_counter`; None while it has not, and of one that broke off."""
        self.held_up = False
        """Whether the backend ever had to wait for the caller."""

    async def __aenter__(self) -> Self:
        self._reader = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._reader
        self._reader.cancel()
        await asyncio.wait({self._reader})

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._failed:
                raise self._failed
            if self._over:
                raise StopAsyncIteration
            await self._change()
        piece = self._waiting.popleft()
        self._size -= len(piece)
        self._changed.set()
        return piece

    async def _read(self) -> None:
        try:
            async for piece in self._pieces:
                self._waiting.append(piece)
                self._size += len(piece)
                self._changed.set()
                while self._size > self._most:
                    self.held_up = True
                    await self._change()
            self.whole_at = time.perf_counter()
        except Exception as error:  # told to whoever takes the pieces, after those before it
            self._failed = error
        self._over = True
        self._changed.set()

    async def _change(self) -> None:
        """Wait until the other side has done something."""
        self._changed.clear()
        await self._changed.wait()
