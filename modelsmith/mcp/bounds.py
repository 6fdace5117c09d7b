"""What one client may hold of a server over HTTP: nobody takes what is everybody's, with a token or without."""

from __future__ import annotations

import asyncio

from mcp.server.lowlevel import Server
from mcp.server.streamable_http import StreamableHTTPServerTransport
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

WHOLE_REQUEST = 30.0
"""Seconds that a connection may take for the head of a request; uvicorn itself waits for as long as anybody likes."""
SESSIONS_OF_ONE = 128
"""Sessions of the older protocol that one token may have open; the SDK has room for some thousands in all."""


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


def bound_sessions(server: Server[object]) -> None:
    """Have no token open more than `SESSIONS_OF_ONE`; the SDK's own bound is of all of them together."""
    manager = server.session_manager
    admit, owners = manager._admit_session, manager._session_owners

    def admitted(requestor: object) -> StreamableHTTPServerTransport | None:
        if sum(owner == requestor for owner in owners.values()) >= SESSIONS_OF_ONE:
            return None
        return admit(requestor)  # type: ignore[arg-type]

    manager._admit_session = admitted  # type: ignore[method-assign]
