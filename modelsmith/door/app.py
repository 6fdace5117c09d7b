"""The door itself: OpenAI's API in front of the clusters of a verified main."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from modelsmith.door.asking import as_governed, read_request
from modelsmith.door.connection import CHAT, CHATTING, signed
from modelsmith.door.exchange import Counting, Exchange
from modelsmith.door.follow import Follower, Ready, Served
from modelsmith.door.gate import ANYONE, Gate
from modelsmith.door.holding import part
from modelsmith.door.refusal import Refused
from modelsmith.door.upstream import JSON
from modelsmith.door.written import NAME
from modelsmith.governance.router import RequestParts, Route, readable
from modelsmith.repository.tokens import Token, Tokens
from modelsmith.schema.errors import ModelsmithError

CALLER: Final[web.RequestKey[Token | None]] = web.RequestKey("caller", Token | None)  # type: ignore[arg-type]
"""Whose key a request came with; None where nobody needs one."""
READERS: Final = 2
"""Bodies of reports that are read at once: threads are few, and main is followed in one of them."""
OPEN: Final = ("/healthz", "/readyz")
"""Paths that are answered without a key: they say no more than whether there is a door."""


@dataclass
class Door:
    """Answers requests by what the follower has at the moment that they come."""

    follower: Follower
    counting: Counting
    hosts: frozenset[str]
    """Values of the ``Host`` header that are accepted."""
    keys: Tokens | None
    """None: nobody needs a key, since only this machine reaches the door."""

    def __post_init__(self) -> None:
        self._gate = Gate(self.counting.limits)
        self._reports = Gate(self.counting.limits.model_copy(update={"at_once": READERS}))

    @property
    def requests(self) -> int:
        """Requests under way, or waiting for their turn."""
        return self._gate.inside + self._gate.waiting

    def app(self) -> web.Application:
        """The web application that answers requests."""
        app = web.Application(middlewares=[self._outermost], client_max_size=self.counting.limits.body_bytes)
        app.on_response_prepare.append(signed)
        app[CHATTING] = self._chatting
        app.router.add_post(CHAT, self._chat, expect_handler=_not_yet)
        app.router.add_post("/v1/feedback", self._feedback, expect_handler=_not_yet)
        app.router.add_get("/v1/models", self._models, expect_handler=_not_yet)
        app.router.add_get("/v1/models/{name}", self._model, expect_handler=_not_yet)
        app.router.add_get("/healthz", self._health, expect_handler=_not_yet)
        app.router.add_get("/readyz", self._ready, expect_handler=_not_yet)
        app.router.add_get("/metrics", self._exposition, expect_handler=_not_yet)
        routes = {
            resource.canonical: ", ".join(sorted(way.method for way in resource)) for resource in app.router.resources()
        }
        app.router.add_route("*", "/{path:.*}", partial(_nowhere, routes), expect_handler=_not_yet)
        return app

    @web.middleware
    async def _outermost(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may ask, and every no in one shape."""
        try:
            self._refuse_strangers(request)
            return await handler(request)
        except Refused as refused:
            return self._no(refused)
        except ModelsmithError as error:
            self.counting.journal.note("trouble", of="door", code=error.code, message=error.message, mend=error.mend)
            return self._no(Refused(503, error.code, "The door cannot answer now; its log says why.", after=15))
        except Exception as error:  # one request's fault is nobody else's
            self.counting.journal.note("bug", kind=type(error).__name__)
            return self._no(Refused(500, "bug", "This is a fault of the door."))

    async def _chatting(self, request: web.Request) -> web.StreamResponse:
        return await self._outermost(request, self._chat)

    def _refuse_strangers(self, request: web.Request) -> None:
        if self.keys is None:
            self._refuse_browsers(request)
        if request.path not in OPEN:
            request[CALLER] = self._caller(request)

    def _refuse_browsers(self, request: web.Request) -> None:
        """Where nobody needs a key, any page in a browser on this machine could ask, or rebind a name to it."""
        if request.host.lower() not in self.hosts:
            raise Refused(421, "wrong-host", "The door is not known by this name.")
        if "Origin" in request.headers:
            raise Refused(403, "no-browsers", "Pages in a browser are not served without keys.")

    def _caller(self, request: web.Request) -> Token | None:
        if self.keys is None:
            return None
        headers = request.headers.getall("Authorization", [])
        scheme, _, secret = (headers[0] if len(headers) == 1 else "").partition(" ")
        token = self.keys.of(secret) if scheme.lower() == "bearer" and 0 < len(secret) <= 256 else None
        if token is None:
            raise Refused(401, "no-key", "The key is missing, unknown, expired or revoked.")
        return token

    def _no(self, refused: Refused) -> web.Response:
        headers = {**refused.headers} | ({"Retry-After": str(refused.after)} if refused.after is not None else {})
        if refused.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        headers["Server"] = NAME
        self.counting.metrics.refused(refused.code)
        return web.Response(status=refused.status, body=refused.body(), content_type=JSON, headers=headers)

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != JSON or request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "not-json", "Send Content-Type: application/json, not compressed.")
        try:
            if "Expect" in request.headers:
                await self._invite(request)
            if request.content.is_eof():  # all of it is here: nothing to wait for
                return await request.read()
            async with asyncio.timeout(self.counting.limits.body_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            most = self.counting.limits.body_bytes
            raise Refused(413, "body-too-large", f"A body has at most {most} bytes.") from None
        except TimeoutError:
            raise Refused(408, "body-too-slow", "The body did not come in time.") from None

    async def _invite(self, request: web.Request) -> None:
        """Ask for a body that waits for it: by now it is known whose it is, and that it may come."""
        if request.headers["Expect"].lower() != "100-continue":
            raise Refused(417, "unknown-expectation", "The door knows no expectation but 100-continue.")
        if (request.content_length or 0) > self.counting.limits.body_bytes:
            raise web.HTTPRequestEntityTooLarge(self.counting.limits.body_bytes, request.content_length or 0)
        if not request.content.is_eof():
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # this is not part of the answer yet

    def _served(self) -> Served:
        if self.follower.served is None:
            raise Refused(503, "not-ready", "Nothing is served yet.", after=5)
        return self.follower.served

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = read_request(await self._body(request))
        served = self._served()
        ready, route = self._routed(served, request, body)
        governed_body, caller = as_governed(body, ready.line.governed), request[CALLER]
        caller_id, share = caller.id if caller else None, 1 / len(served.clusters)
        turns = part(self.counting.limits.at_once, share)
        async with self._gate.turn(_name(caller), route.cluster, share):
            return await Exchange(self.counting, request, ready, route, governed_body, caller_id, turns).answer()

    def _routed(self, served: Served, request: web.Request, body: Mapping[str, Any]) -> tuple[Ready, Route]:
        route = served.rules.route(RequestParts(body["model"], readable(request.headers.items()), body))
        if route is None:
            names_known = sorted(name for name in served.clusters if _may(request, name))
            names = f" Models: {', '.join(names_known[:20])}." if names_known and not served.rules.count else ""
            raise Refused(404, "no-route", f"No rule takes this request, and none is guessed.{names}", param="model")
        if not _may(request, route.cluster):
            raise Refused(403, "outside-key", "This key is not for the cluster that the request belongs to.")
        ready = served.clusters.get(route.cluster)
        if ready is None:
            raise Refused(503, "cluster-not-ready", "The cluster's models are not ready.", after=15)
        return ready, route

    async def _feedback(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        work = asyncio.ensure_future(self._reported(request, body))
        work.add_done_callback(lambda finished: finished.cancelled() or finished.exception())
        status, answer = await asyncio.shield(work)
        headers = {"Retry-After": "1"} if status == 429 else {}
        return web.json_response(answer, status=status, headers=headers)

    async def _reported(self, request: web.Request, body: bytes) -> tuple[int, dict[str, Any]]:
        """Read reports in a turn that lasts as long as the thread works, also where the sender has left."""
        sender = _name(request[CALLER])
        async with self._reports.turn(sender):
            return await asyncio.to_thread(self.counting.recorder.feedback, body, partial(_may, request), sender)

    async def _models(self, request: web.Request) -> web.Response:
        names = sorted(name for name in self._served().clusters if _may(request, name))
        return web.json_response({"object": "list", "data": [_as_model(name) for name in names]})

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._served().clusters or not _may(request, name):
            raise Refused(404, "no-such-model", "There is no such model for this key.", param="model")
        return web.json_response(_as_model(name))

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _ready(self, request: web.Request) -> web.Response:
        """Ready is a door that answers, even by an older main; then it says so.

        By which main it says where only this machine asks; nobody needs a key for this, so others are not told.
        """
        served, troubles = self.follower.served, self.follower.troubles
        counting = self.counting.recorder.trouble
        if served is None or not served.clusters:
            return web.json_response({"status": "not ready"}, status=503, headers={"Retry-After": "5"})
        status = "ready" if not troubles and counting is None else "degraded"
        state = {"status": status, "trouble": sorted({e.code for e in troubles.values()}), "counting": counting is None}
        commit = {"commit": served.commit} if self.keys is None else {}
        return web.json_response({**state, **commit})

    async def _exposition(self, request: web.Request) -> web.Response:
        """Figures are of every cluster, so they are for who may ask every cluster."""
        caller = request[CALLER]
        if caller is not None and "*" not in caller.scopes:
            raise Refused(403, "outside-key", "These figures are of every cluster, and this key is not for all.")
        self.counting.metrics.state(self.follower, self._gate)
        kind, data = self.counting.recorder.exposition()
        return web.Response(body=data + self.counting.metrics.exposition(), headers={"Content-Type": kind})


async def _not_yet(request: web.Request) -> None:
    """In place of aiohttp's own handler of ``Expect``, which asks for the body before anybody looks at the key."""


async def _nowhere(methods_by_path: Mapping[str, str], request: web.Request) -> web.StreamResponse:
    """The answer to a request that no route takes, whether or not its body waits to be asked for."""
    if methods := methods_by_path.get(request.path):
        refused = Refused(405, "no-such-path", f"This path takes {methods}.")
        refused.headers = {"Allow": methods}
        raise refused
    raise Refused(404, "no-such-path", "There is nothing at this path.")


def _as_model(name: str) -> dict[str, Any]:
    """A cluster as OpenAI's API shows a model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "modelsmith"}


def _name(caller: Token | None) -> str:
    return caller.id if caller else ANYONE


def _may(request: web.Request, cluster: str) -> bool:
    caller = request[CALLER]
    return caller is None or any(fnmatch.fnmatchcase(cluster, scope) for scope in caller.scopes)
