"""Tells clients that the resource of events has changed: by a stream of their own, or as the older protocol did.

Each is told by a task of its own, which waits for more and sends one notice. While a client does not take it, nothing
is kept for it, and nobody else waits; all that has come meanwhile is its next notice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakSet

import anyio
import mcp_types as types
from anyio.abc import TaskGroup
from mcp.server.connection import Connection
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError

from modelsmith.mcp.calls import Session, refusal
from modelsmith.mcp.resources import EVENTS, has_events
from modelsmith.mcp.tasks import require
from modelsmith.mcp.watching import Watch
from modelsmith.schema.errors import InvalidInput

MOST = 256
"""Streams and connections of the older protocol that are told at a time, together."""
MOST_OF_ONE = 32
"""Subscriptions of one token: nobody takes what is everybody's."""
RECHECK = 5.0
"""Seconds after which the streams of a token that was revoked, or has expired, have ended."""
PATIENCE = 60.0
"""Seconds for which a stream may take nothing before it ends; its client listens again, and reads by its cursor."""


class Subscriptions:
    """Who is told. A notification names the resource and nothing else: what happened is read under its own rights."""

    def __init__(self, watch: Watch, caller: Callable[[], Session]) -> None:
        self._watch = watch
        self._caller = caller
        self._tasks: TaskGroup | None = None
        self._listeners: dict[Connection | anyio.CancelScope, tuple[Session, anyio.CancelScope]] = {}
        """Connections of the older protocol, and streams; each with what ends its task."""
        self._known: WeakSet[Connection] = WeakSet()
        """Connections that take themselves out when they end."""

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[dict[str, Any]]:
        """Watch the ledger for as long as the server runs."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._watch.run)
            tasks.start_soon(self._recheck)
            yield {}
            tasks.cancel_scope.cancel()

    async def _recheck(self) -> None:
        while True:
            await anyio.sleep(RECHECK)
            for listener, (session, _) in list(self._listeners.items()):
                if not session.holds():
                    self._end(listener)

    async def listen(self, ctx: Any, params: types.SubscriptionsListenRequestParams) -> types.SubscriptionsListenResult:
        """Serve one stream of `subscriptions/listen` (2026-07-28); of what it asks for, only events ever come."""
        session = self._caller()
        if "taskIds" in (params.notifications.model_extra or {}):
            require(ctx)  # and then none is promised: tasks are polled
        uris = params.notifications.resource_subscriptions or ()
        mine = [EVENTS] if EVENTS in uris and has_events(session) else None
        meta = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}

        async def takes(notice: types.ServerNotification) -> bool:
            with anyio.move_on_after(PATIENCE) as waiting:
                await ctx.session.send_notification(notice, related_request_id=ctx.request_id)
            return not waiting.cancelled_caught

        with anyio.CancelScope() as stream, self._place(stream, session, stream):
            news = self._watch.news()
            honored = types.SubscriptionFilter(resource_subscriptions=mine)
            about = types.SubscriptionsAcknowledgedNotificationParams(notifications=honored, _meta=meta)
            changed = types.ResourceUpdatedNotificationParams(uri=EVENTS, _meta=meta)
            goes_on = await takes(types.SubscriptionsAcknowledgedNotification(params=about))
            while goes_on:
                await anext(news)
                if not session.holds():
                    break
                goes_on = not mine or await takes(types.ResourceUpdatedNotification(params=changed))
            else:
                return types.SubscriptionsListenResult(_meta=meta)
        raise MCPError(types.INVALID_REQUEST, "No token", {"code": "no-token"})

    async def _tell(self, connection: Connection, session: Session, scope: anyio.CancelScope) -> None:
        """Tell a connection of the older protocol until it is forgotten."""
        with scope:
            async for _ in self._watch.news():
                if not session.holds():
                    return self._forget(connection)
                await connection.send_resource_updated(EVENTS)

    @contextmanager
    def _place(
        self, listener: Connection | anyio.CancelScope, session: Session, scope: anyio.CancelScope
    ) -> Iterator[None]:
        self._take(listener, session, scope)
        try:
            yield
        finally:
            self._forget(listener)

    def _take(self, listener: Connection | anyio.CancelScope, session: Session, scope: anyio.CancelScope) -> None:
        """Have somebody told from now on.

        Raises:
            MCPError: there are `MOST`, or `MOST_OF_ONE` of this token.
        """
        of_one = sum(other.holder == session.holder for other, _ in self._listeners.values())
        if len(self._listeners) >= MOST or of_one >= MOST_OF_ONE:
            raise MCPError(types.INTERNAL_ERROR, "Subscription limit reached")
        self._listeners[listener] = (session, scope)
        self._watch.listeners += 1

    def _forget(self, listener: Connection | anyio.CancelScope) -> None:
        if self._listeners.pop(listener, None):
            self._watch.listeners -= 1

    def _end(self, listener: Connection | anyio.CancelScope) -> None:
        """Tell it no more, and end its task."""
        if listener in self._listeners:
            _, task = self._listeners[listener]
            self._forget(listener)
            task.cancel()

    async def subscribe(self, ctx: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """`resources/subscribe` of the versions before."""
        session = self._caller()
        if str(params.uri) != EVENTS or not has_events(session):
            unknown = InvalidInput("no-such-resource", "Only events can be subscribed to", f"Subscribe to {EVENTS}.")
            raise MCPError(types.INVALID_PARAMS, "Refused", refusal(session, unknown))
        connection = _connection(ctx)
        if connection not in self._listeners:
            scope = anyio.CancelScope()
            self._take(connection, session, scope)
            assert self._tasks is not None
            self._tasks.start_soon(self._tell, connection, session, scope)
        if connection not in self._known:
            self._known.add(connection)
            connection.exit_stack.callback(self._end, connection)
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """Tell this connection no more."""
        self._end(_connection(ctx))
        return types.EmptyResult()


def _connection(ctx: Any) -> Connection:
    """The connection, which outlives the request; the SDK gives a handler no other way to it."""
    connection: Connection = ctx.session._connection
    return connection
