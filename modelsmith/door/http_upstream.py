"""A model at a server that speaks OpenAI's API: vLLM, a provider, a team's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import aiohttp
from yarl import URL

from modelsmith.door.asking import encode
from modelsmith.door.backends import CONNECT_SECONDS
from modelsmith.door.deadlines import Deadlines
from modelsmith.door.posting import MOST, Pieces, Posted, Posting, no_connection
from modelsmith.door.refusal import Down
from modelsmith.door.upstream import EVENTS, FREE, JSON, Price, Reply

_TO_BLAME = frozenset({400, 413, 422})
"""Statuses by which a server says that the request is wrong, whoever answers it."""


@dataclass(frozen=True)
class HttpModel:
    """One model of a server that speaks OpenAI's API.

    Nothing of a caller's headers goes there, and of the server's nothing comes back but status and kind of content: so
    nobody can speak in the name of the other.
    """

    session: aiohttp.ClientSession
    url: str
    """Base URL, up to and with the version."""
    name: str
    """Name by which the server knows the model."""
    key: str | None = field(default=None, repr=False)
    proxy: str | None = None
    """The proxy that the environment names for this server."""
    silence_seconds: float = 60.0
    """Longest wait for the next piece of an answer."""
    mend: Callable[[], Awaitable[object]] | None = None
    """What to do where the server no longer knows the model, as after its restart; raises `Down`."""
    extra_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that this model is always asked with."""
    omit: tuple[str, ...] = ()
    """Fields that this server refuses."""
    price: Price = FREE

    @asynccontextmanager
    async def ask(self, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """See `Model`."""
        fields = {name: value for name, value in body.items() if name not in self.omit}
        data = encode({**fields, **self.extra_fields, "model": self.name})
        response = await self._post(data)
        if response.status == 404 and self.mend is not None:
            response.close()
            await self.mend()
            response = await self._post(data)
        try:
            kind = response.content_type
            if response.status != 200 and response.status not in _TO_BLAME:
                raise Down(502 if response.status < 500 else response.status, f"status {response.status}", again=False)
            if kind != (EVENTS if body.get("stream") and response.status == 200 else JSON):
                raise Down(502, "content type", again=False)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Down(502, "content encoding", again=False)
            yield Reply(response.status, kind, Pieces(response.content, self._silence), price=self.price)
        finally:
            response.close()

    @cached_property
    def _place(self) -> URL:
        return URL(f"{self.url.rstrip('/')}/chat/completions")

    @cached_property
    def _headers(self) -> Mapping[str, str]:
        authorized = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return {"Content-Type": JSON, "Accept-Encoding": "identity", **authorized}

    @cached_property
    def _timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self.silence_seconds)

    @cached_property
    def _silence(self) -> Deadlines:
        return Deadlines(self.silence_seconds)

    @cached_property
    def _posting(self) -> Posting:
        return Posting(self.session, self._place, self._headers, self._timeout)

    async def _post(self, data: bytes) -> Posted | aiohttp.ClientResponse:
        try:
            if self.proxy is None and len(data) <= MOST:
                return await self._posting.post(data, self._silence)
            return await self.session.post(
                self._place,
                data=data,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
                proxy=self.proxy,
            )
        except aiohttp.ConnectionTimeoutError:
            raise Down(503, "connect", again=False) from None
        except TimeoutError:
            raise Down(504, "timeout", again=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise no_connection(error) from None
