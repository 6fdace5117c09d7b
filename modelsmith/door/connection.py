"""What answers bytes that are no request: in the door's own words, and with none of theirs, in answer or log."""

from __future__ import annotations

from aiohttp import web
from typing_extensions import override

from modelsmith.door.refusal import Refused
from modelsmith.door.upstream import JSON

NAME = "modelsmith"
"""What every answer says of its server: versions of libraries are nobody's business."""


class _Connection(web.RequestHandler):
    """One connection. Whoever reaches the port can send anything, without a key: a key may be among it, too."""

    __slots__ = ()

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
    @override
    def __call__(self) -> _Connection:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs the door's application on such connections; aiohttp has no setting for it."""

    __slots__ = ()

    @override
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )


async def signed(request: web.Request, response: web.StreamResponse) -> None:
    """Name the server in an answer."""
    response.headers["Server"] = NAME
