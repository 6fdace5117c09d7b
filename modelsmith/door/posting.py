"""A POST over aiohttp's own connections, parser and pool, without its session: that one costs more than all the rest.

A session makes a request, a response, cookies, redirects and timers for each POST. To a backend always the same head
goes, and of its answer nothing is read but status, kind of content and body. So the head is made once, by aiohttp's own
`ClientRequest`, and what is left is a write and the reading. The protocol is used as `aiohttp.ClientSession` uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Self

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from modelsmith.door.deadlines import Deadlines
from modelsmith.door.refusal import Down, Refused
from modelsmith.door.room import is_ours, no_room

MOST: Final = 1 << 16
"""Bytes of a request that go out at once; of a longer one aiohttp's session waits until the server takes it."""
_NO_ANSWER = (aiohttp.ClientError, HttpProcessingError, OSError)


class Posted:
    """An answer that has begun. Closed before its end, it closes the connection: so the server stops."""

    def __init__(self, connection: Any, message: Any, content: aiohttp.StreamReader) -> None:
        self._connection, self.status, self.headers, self.content = connection, message.code, message.headers, content
        content.on_eof(connection.release)

    @property
    def content_type(self) -> str:
        """Kind of the content, without its parameters."""
        return str(self.headers.get("Content-Type", "")).partition(";")[0].strip().lower()

    def close(self) -> None:
        """Take no more of it."""
        self._connection.close()


class Posting:
    """Where POSTs of one kind go. Belongs to one event loop."""

    def __init__(
        self, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> None:
        """Make the head ready.

        Raises:
            ValueError: a header holds the end of a line.
        """
        self._session, self._timeout = session, timeout
        loop = asyncio.get_running_loop()
        self._request = aiohttp.ClientRequest("POST", url, headers=headers, loop=loop, session=session)
        lines = [f"POST {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in self._headers())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header holds the end of a line")
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()

    def _headers(self) -> list[tuple[str, str]]:
        left_out = ("content-length", "transfer-encoding")
        return [(name, value) for name, value in self._request.headers.items() if name.lower() not in left_out]

    async def post(self, data: bytes, silence: Deadlines) -> Posted:
        """Send ``data`` and wait until an answer begins.

        Raises:
            Down: none did.
            Refused: the door has no room for a connection.
        """
        connector = self._session.connector
        if connector is None or connector.closed:
            raise Down(503, "connect")
        try:
            connection = await connector.connect(self._request, [], self._timeout)
        except TimeoutError:
            raise Down(503, "connect", again=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise no_connection(error) from None
        try:
            return await self._sent(connection, data, silence)
        except TimeoutError:
            connection.close()
            raise Down(504, "timeout", again=False) from None
        except _NO_ANSWER:
            connection.close()
            raise Down(503, "connect") from None
        except BaseException:
            connection.close()
            raise

    async def _sent(self, connection: Any, data: bytes, silence: Deadlines) -> Posted:
        protocol, transport = connection.protocol, connection.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(data), data))
        waits = silence.begin(partial(_too_silent, protocol))
        try:
            message, content = await protocol.read()
            return Posted(connection, message, content)
        finally:
            silence.end(waits)


class Pieces:
    """The pieces of an answer as they come."""

    def __init__(self, content: aiohttp.StreamReader, silence: Deadlines) -> None:
        self._content, self._silence = content, silence

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the answer.

        Raises:
            Down: the answer breaks off, or nothing comes in time.
        """
        waits = self._silence.begin(partial(_too_silent, self._content))
        try:
            piece = await self._content.readany()
        except TimeoutError:
            raise Down(504, "timeout", again=False) from None
        except _NO_ANSWER:
            raise Down(502, "broke off") from None
        finally:
            self._silence.end(waits)
        if not piece:
            raise StopAsyncIteration
        return piece


def no_connection(error: Exception) -> Down | Refused:
    """The failure that a failed connection to a backend stands for."""
    return no_room() if isinstance(error, OSError) and is_ours(error) else Down(503, "connect")


def _too_silent(source: Any) -> None:
    """Wake whoever waits for something of a server, as aiohttp's own timer of a read does."""
    source.set_exception(aiohttp.SocketTimeoutError("nothing came in time"))
