"""What one client may hold of a server over HTTP: nobody takes what is everybody's, with a token or without."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER, StreamableHTTPServerTransport
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

WHOLE_REQUEST = 30.0
"""Seconds that a connection may take for the head of a request; uvicorn itself waits for as long as anybody likes."""
SESSIONS_OF_ONE = 128
"""Sessions of the older protocol that one token may have open; the SDK has room for some thousands in all."""

RECHECK = 5.0
"""Seconds after which the sessions of a token that was revoked, or has expired, have ended."""


class Connection(H11Protocol):
    """A connection that ends where no request comes: whoever reaches the port can open it, without a token."""

    _timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    @override
    def handle_events(self) -> None:
        super().handle_events()
        self._wait()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def _wait(self) -> None:
        """Wait for a request where none is under way; bytes that trickle in begin no new wait."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(WHOLE_REQUEST, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bound_sessions(server: Server[object], app: Starlette, holds: Callable[[AccessToken], bool]) -> None:
    """Have no token open more than `SESSIONS_OF_ONE`; the SDK's own bound is of all of them together.

    A session ends, and its streams with it, within `RECHECK` seconds after ``holds`` says that its token does not: the
    one that opened it, or a later one of the same user's by which the client went on with it.
    """
    manager = server.session_manager
    admit, handle, owners = manager._admit_session, manager._handle_stateful_request, manager._session_owners
    tokens_by_session: dict[str, AccessToken] = {}
    """Session -> the token that holds longest of those that were shown for it."""

    def admitted(requestor: object) -> StreamableHTTPServerTransport | None:
        if sum(owner == requestor for owner in owners.values()) >= SESSIONS_OF_ONE:
            return None
        transport, token = admit(requestor), get_access_token()  # type: ignore[arg-type]
        if transport and transport.mcp_session_id and token:
            tokens_by_session[transport.mcp_session_id] = token
        return transport

    async def handled(scope: Scope, receive: Receive, send: Send) -> None:
        name, user = Headers(scope=scope).get(MCP_SESSION_ID_HEADER, ""), scope.get("user")
        if (
            name in tokens_by_session
            and isinstance(user, AuthenticatedUser)
            and owners.get(name) == authorization_context(user)
        ):
            tokens_by_session[name] = max(tokens_by_session[name], user.access_token, key=_ends)
        await handle(scope, receive, send)

    async def recheck() -> None:
        while True:
            await anyio.sleep(RECHECK)
            for name in tokens_by_session.keys() - owners.keys():
                del tokens_by_session[name]
            tokens = {_known_by(token): token for token in tokens_by_session.values()}
            ended = {key for key, token in tokens.items() if not await anyio.to_thread.run_sync(holds, token)}
            for name, token in list(tokens_by_session.items()):
                if _known_by(token) in ended and (session := manager._server_instances.get(name)):
                    with suppress(Exception):  # what one session is does not end the server
                        await manager._discard_session(name, session)

    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def rechecking(app: Starlette) -> AsyncIterator[object]:
        async with lifespan(app) as state, anyio.create_task_group() as tasks:
            tasks.start_soon(recheck)
            yield state
            tasks.cancel_scope.cancel()

    manager._admit_session = admitted  # type: ignore[method-assign]
    manager._handle_stateful_request = handled  # type: ignore[method-assign]
    app.router.lifespan_context = rechecking  # type: ignore[assignment]


def _ends(token: AccessToken) -> float:
    return math.inf if token.expires_at is None else token.expires_at


def _known_by(token: AccessToken) -> tuple[object, ...]:
    return ((token.claims or {}).get("iss"), token.token, token.expires_at)
