"""Callers of the front door's benchmark: whole answers, streams read to their end, and streams that stay open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

QUESTION = "Bid rate fell from 41 to 12 in a hundred at 02:00, and answers from Virginia arrive late. " * 12


class Caller:
    """One connection to the subject at a base URL, and the request that goes over it."""

    def __init__(self, url: str, key: str, number: int, more: Mapping[str, Any]) -> None:
        self._at = urlsplit(url)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": QUESTION}], **more}).encode()
        head = f"POST {self._at.path}/chat/completions HTTP/1.1\r\nHost: {self._at.netloc}\r\n"
        head += f"Content-Type: application/json\r\nAuthorization: Bearer {key}\r\nX-User: {number}\r\n"
        self.request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Both ends of the connection."""
        return await asyncio.open_connection(self._at.hostname, self._at.port, limit=1 << 16)


async def ask(url: str, key: str, connections: int, seconds: float) -> tuple[list[float], float]:
    """Milliseconds of each request, over so many connections at once; and how many were answered in a second.

    None is begun after ``seconds``; the last ones may end long after.
    """
    start = time.perf_counter()
    end = start + seconds
    tokens_read: list[float] = []

    async def ask_one(number: int) -> None:
        caller = Caller(url, key, number, {"temperature": 0})
        reader, writer = await caller.connect()
        while (begin := time.perf_counter()) < end:
            writer.write(caller.request)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise RuntimeError(head.decode())
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            tokens_read.append((time.perf_counter() - begin) * 1000)
        writer.close()

    await asyncio.gather(*(ask_one(number) for number in range(connections)))
    return tokens_read, len(tokens_read) / (time.perf_counter() - start)


async def ask_streams(url: str, key: str, streams: int, tokens: int) -> float:
    """Tokens that came in a second, over so many streams at once, each read to its end."""

    async def ask_one(number: int) -> int:
        caller = Caller(url, key, number, {"max_tokens": tokens, "stream": True})
        reader, writer = await caller.connect()
        writer.write(caller.request)
        text = b""
        while not text.endswith(b"\r\n0\r\n\r\n"):
            piece = await reader.read(1 << 16)
            if not piece:
                raise RuntimeError("a stream broke off")
            text += piece
        writer.close()
        return text.count(b" token")

    begin = time.perf_counter()
    received = sum(await asyncio.gather(*map(ask_one, range(streams))))
    if received != streams * tokens:
        raise RuntimeError(f"{received} tokens of {streams * tokens} came")
    return received / (time.perf_counter() - begin)


async def hold_streams(url: str, key: str, number: int) -> tuple[list[asyncio.StreamWriter], float]:
    """So many streams that have begun; their connections, and the seconds that it took."""
    begin, room = time.perf_counter(), asyncio.Semaphore(200)

    async def stream_one(number: int) -> asyncio.StreamWriter:
        async with room:
            caller = Caller(url, key, number, {"stream": True})
            reader, writer = await caller.connect()
            writer.write(caller.request)
            head = await reader.readuntil(b"data: ")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise RuntimeError(head.decode())
            return writer

    return list(await asyncio.gather(*map(stream_one, range(number)))), time.perf_counter() - begin
