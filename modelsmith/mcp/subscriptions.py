"""Tells clients that the resource of events has changed: by a stream of their own, or as the older protocol did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

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
"""Streams, and connections of the older protocol, that are told at a time."""
_SLOW = 1.0
"""Seconds after which a connection that does not read is told no more this time."""


class Subscriptions:
    """Who is told. A notification names the resource and nothing else: what happened is read under its own rights."""

    def __init__(self, watch: Watch, who: Callable[[], Session]) -> None:
        self._watch = watch
        self._who = who
        self._bus = InMemorySubscriptionBus()
        self._streams = ListenHandler(self._bus, max_subscriptions=MOST, max_buffered_events=16)
        self._connections: set[Connection] = set()

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[dict[str, Any]]:
        """Watch the ledger for as long as the server runs."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch.run, self._tell)
            yield {}
            tasks.cancel_scope.cancel()

    async def _tell(self) -> None:
        await self._bus.publish(ResourceUpdated(EVENTS))
        for connection in list(self._connections):
            with anyio.move_on_after(_SLOW):
                await connection.send_resource_updated(EVENTS)

    async def listen(self, ctx: Any, params: types.SubscriptionsListenRequestParams) -> types.SubscriptionsListenResult:
        """Serve one stream of `subscriptions/listen` (2026-07-28); of what it asks for, only events ever come."""
        asked = params.notifications.resource_subscriptions or ()
        mine = [EVENTS] if EVENTS in asked and has_events(self._who()) else None
        narrowed = params.model_copy(update={"notifications": types.SubscriptionFilter(resource_subscriptions=mine)})
        with self._watch.listening():
            return await self._streams(ctx, narrowed)

    async def subscribe(self, ctx: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """`resources/subscribe` of the versions before."""
        session = self._who()
        if str(params.uri) != EVENTS or not has_events(session):
            unknown = InvalidInput("no-such-resource", "Only events can be subscribed to", f"Subscribe to {EVENTS}.")
            raise MCPError(types.INVALID_PARAMS, "Refused", refusal(session, unknown))
        connection = _connection(ctx)
        if connection in self._connections:
            return types.EmptyResult()
        if len(self._connections) >= MOST:
            raise MCPError(types.INTERNAL_ERROR, "Subscription limit reached")
        self._connections.add(connection)
        connection.exit_stack.enter_context(self._watch.listening())
        connection.exit_stack.callback(self._connections.discard, connection)
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """Tell this connection no more."""
        self._connections.discard(_connection(ctx))
        return types.EmptyResult()


def _connection(ctx: Any) -> Connection:
    """What outlives the request; the SDK gives a handler no other way to it."""
    found: Connection = ctx.session._connection
    return found
