"""Tells clients that the resource of events has changed: by a stream of their own, or as the older protocol did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakSet

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError

from modelsmith.mcp.calls import Session, refusal
from modelsmith.mcp.resources import EVENTS, has_events
from modelsmith.mcp.watching import Watch
from modelsmith.schema.errors import InvalidInput

MOST = 256
"""Streams and connections of the older protocol that are told at a time, together."""
MOST_OF_ONE = 32
"""Those of one token: nobody takes what is everybody's."""
RECHECK = 5.0
"""Seconds after which the streams of a token that was revoked, or has expired, have ended."""
_SLOW = 1.0
"""Seconds after which a connection that does not read is told no more this time."""


class Subscriptions:
    """Who is told. A notification names the resource and nothing else: what happened is read under its own rights."""

    def __init__(self, watch: Watch, who: Callable[[], Session]) -> None:
        self._watch = watch
        self._who = who
        self._bus = InMemorySubscriptionBus()
        self._streams = ListenHandler(self._bus, max_subscriptions=MOST, max_buffered_events=16)
        self._told: dict[Connection | anyio.CancelScope, Session] = {}
        """Connections of the older protocol, and streams by what ends them."""
        self._known: WeakSet[Connection] = WeakSet()
        """Connections that take themselves out when they end."""

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[dict[str, Any]]:
        """Watch the ledger for as long as the server runs."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch.run, self._tell)
            tasks.start_soon(self._recheck)
            yield {}
            tasks.cancel_scope.cancel()

    async def _recheck(self) -> None:
        while True:
            await anyio.sleep(RECHECK)
            self._end_what_no_token_holds()

    def _end_what_no_token_holds(self) -> None:
        for told, session in list(self._told.items()):
            if not session.holds():
                self._forget(told)
                if isinstance(told, anyio.CancelScope):
                    told.cancel()

    async def _tell(self) -> None:
        self._end_what_no_token_holds()
        await self._bus.publish(ResourceUpdated(EVENTS))
        for connection in [one for one in self._told if isinstance(one, Connection)]:
            with anyio.move_on_after(_SLOW):
                await connection.send_resource_updated(EVENTS)

    async def listen(self, ctx: Any, params: types.SubscriptionsListenRequestParams) -> types.SubscriptionsListenResult:
        """Serve one stream of `subscriptions/listen` (2026-07-28); of what it asks for, only events ever come."""
        session = self._who()
        asked = params.notifications.resource_subscriptions or ()
        mine = [EVENTS] if EVENTS in asked and has_events(session) else None
        narrowed = params.model_copy(update={"notifications": types.SubscriptionFilter(resource_subscriptions=mine)})
        with anyio.CancelScope() as stream, self._place(stream, session):
            return await self._streams(ctx, narrowed)
        raise MCPError(types.INVALID_REQUEST, "No token", {"code": "no-token"})

    @contextmanager
    def _place(self, told: Connection | anyio.CancelScope, session: Session) -> Iterator[None]:
        self._take(told, session)
        try:
            yield
        finally:
            self._forget(told)

    def _take(self, told: Connection | anyio.CancelScope, session: Session) -> None:
        """Have somebody told from now on.

        Raises:
            MCPError: there are `MOST`, or `MOST_OF_ONE` of this token.
        """
        of_one = sum(other.holder == session.holder for other in self._told.values())
        if len(self._told) >= MOST or of_one >= MOST_OF_ONE:
            raise MCPError(types.INTERNAL_ERROR, "Subscription limit reached")
        self._told[told] = session
        self._watch.listeners += 1

    def _forget(self, told: Connection | anyio.CancelScope) -> None:
        if self._told.pop(told, None) is not None:
            self._watch.listeners -= 1

    async def subscribe(self, ctx: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """`resources/subscribe` of the versions before."""
        session = self._who()
        if str(params.uri) != EVENTS or not has_events(session):
            unknown = InvalidInput("no-such-resource", "Only events can be subscribed to", f"Subscribe to {EVENTS}.")
            raise MCPError(types.INVALID_PARAMS, "Refused", refusal(session, unknown))
        connection = _connection(ctx)
        if connection not in self._told:
            self._take(connection, session)
        if connection not in self._known:
            self._known.add(connection)
            connection.exit_stack.callback(self._forget, connection)
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """Tell this connection no more."""
        self._forget(_connection(ctx))
        return types.EmptyResult()


def _connection(ctx: Any) -> Connection:
    """What outlives the request; the SDK gives a handler no other way to it."""
    found: Connection = ctx.session._connection
    return found
