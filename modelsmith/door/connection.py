"""What answers bytes that are no request: in the door's own words, and with none of theirs, in answer or log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web
from typing_extensions import override

from modelsmith.door.refusal import Refused
from modelsmith.door.room import Room
from modelsmith.door.upstream import JSON
from modelsmith.door.written import NAME

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
CHAT: Final = "/v1/chat/completions"
CHATTING: Final[web.AppKey[Answer]] = web.AppKey("chatting", Answer)  # type: ignore[arg-type]
"""What an application answers `CHAT` with. A connection asks it without looking for a route, which takes aiohttp some
20 us; all else, and who waits to be asked for a body, goes through the routes."""


class _Connection(web.RequestHandler):
    """One connection. Whoever reaches the port can send anything, without a key: a key may be among it, too."""

    __slots__ = ()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = cast(_Server, self._manager)
        if server.room and not server.room.takes(transport.get_extra_info("socket").fileno()):
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refuses; only a fault of the door's own is news for its log."""
        if status >= 500:
            self.log_exception("a request could not be answered", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        refused = (
            Refused(status, "bad-http", "This is no HTTP that every reader reads alike.")
            if status < 500
            else Refused(500, "bug", "This is a fault of the door.")
        )
        response = web.Response(status=refused.status, body=refused.body(), content_type=JSON, headers={"Server": NAME})
        response.force_close()
        return response


class _Server(web.Server):
    room: Room | None = None
    """What callers' connections have room in; None: no end of it."""

    @override
    def __call__(self) -> _Connection:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs the door's application on such connections; aiohttp has no setting for it."""

    __slots__ = ("_room",)

    def __init__(self, app: web.Application, room: Room | None = None, **kwargs: Any) -> None:
        # A compressed body is refused. aiohttp would unpack what is left of it, and log each that is broken.
        super().__init__(app, auto_decompress=False, **kwargs)
        self._room = room

    @override
    async def _make_server(self) -> web.Server:
        web_server = await super()._make_server()
        chatting, others = self.app[CHATTING], web_server.request_handler

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.method == "POST" and request.path == CHAT and "Expect" not in request.headers:
                return await chatting(request)
            return await others(request)

        server = _Server(
            answer,  # type: ignore[arg-type]
            request_factory=web_server.request_factory,
            handler_cancellation=web_server.handler_cancellation,
            **web_server._kwargs,
        )
        server.room = self._room
        return server


async def signed(request: web.Request, response: web.StreamResponse) -> None:
    """Name the server in an answer."""
    response.headers["Server"] = NAME
