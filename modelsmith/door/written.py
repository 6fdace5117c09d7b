"""An answer that is whole, head and body in one write, before anything is noted of it: nobody waits for the note."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from multidict import CIMultiDict
from typing_extensions import override

NAME = "modelsmith"
"""What every answer says of its server: versions of libraries are nobody's business."""


class WrittenResponse(web.StreamResponse):
    """What aiohttp is told of such an answer: it has nothing to prepare, and waits until the caller has taken it."""

    def __init__(self, request: web.BaseRequest, status: int) -> None:
        super().__init__(status=status)
        self._writer, self._kept = request.writer, request.keep_alive

    @property
    @override
    def keep_alive(self) -> bool:
        return self._kept

    @override
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        await self._writer.write_eof()
        await self._writer.drain()


async def write_whole(
    request: web.BaseRequest, status: int, kind: str, body: bytes, headers: Mapping[str, str]
) -> WrittenResponse:
    """Write an answer of this kind of content to the caller; it does not wait until the caller takes it.

    Raises:
        ConnectionError: the caller has left.
    """
    writer = cast(StreamWriter, request.writer)
    major, minor = request.version[:2]
    head = CIMultiDict(
        {"Content-Type": kind, "Content-Length": str(len(body)), "Date": _date(int(time.time())), "Server": NAME}
    )
    head.update(headers)
    if not request.keep_alive:
        head["Connection"] = "close"
    elif (major, minor) == (1, 0):
        head["Connection"] = "keep-alive"
    await writer.write_headers(f"HTTP/{major}.{minor} {status} {HTTPStatus(status).phrase}", head)
    await writer.write(body, drain=False)
    return WrittenResponse(request, status)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
