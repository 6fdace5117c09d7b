"""The door itself: OpenAI's API in front of the clusters of a verified main."""

from __future__ import annotations

import asyncio
import fnmatch
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from modelsmith.door.asking import as_governed, read_request
from modelsmith.door.follow import Follower, Ready, Served
from modelsmith.door.gate import ANYONE, Gate
from modelsmith.door.journal import Journal
from modelsmith.door.metrics import DoorMetrics
from modelsmith.door.refusal import Down, Refused, unavailable
from modelsmith.door.settings import Limits
from modelsmith.door.upstream import EVENTS, JSON, Reply, Usage, is_answer
from modelsmith.governance.router import Asked, Route, assigned, readable
from modelsmith.live.port import Answered, Decision, Recorder
from modelsmith.promotion.serving import Arm
from modelsmith.repository.tokens import Token, Tokens
from modelsmith.schema.errors import ModelsmithError

PREFIX: Final = "x-modelsmith-"
LARGEST_ANSWER: Final = 16 << 20
"""Bytes of an answer that is no stream."""
PAUSE: Final = 0.2
"""Seconds before the same backend is asked once more."""
HUNG_UP: Final = 499
"""Status noted where the caller left before the end; nginx's convention."""
CALLER: Final[web.RequestKey[Token | None]] = web.RequestKey("caller", Token | None)  # type: ignore[arg-type]
"""Whose key a request came with; None where nobody needs one."""
OPEN: Final = ("/healthz", "/readyz")
"""Paths that are answered without a key: they say no more than whether there is a door."""


@dataclass
class Door:
    """Answers requests by what the follower has at the moment that they come."""

    follower: Follower
    recorder: Recorder
    limits: Limits
    journal: Journal
    hosts: frozenset[str]
    """What the ``Host`` of a request may say."""
    keys: Tokens | None
    """None: nobody needs a key, since only this machine reaches the door."""
    metrics: DoorMetrics = field(default_factory=DoorMetrics)

    def __post_init__(self) -> None:
        self._gate = Gate(self.limits)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._outermost], client_max_size=self.limits.body_bytes)
        app.on_response_prepare.append(_signed)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/feedback", self._feedback)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._exposition)
        return app

    @web.middleware
    async def _outermost(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may ask, and every no in one shape."""
        try:
            self._refuse_strangers(request)
            return await handler(request)
        except Refused as refused:
            return self._no(refused)
        except web.HTTPException as error:
            words = {404: "There is nothing at this path.", 405: "This path takes another method."}
            return self._no(Refused(error.status, "no-such-path", words.get(error.status, "The request is refused.")))
        except ModelsmithError as error:
            self.journal.note("trouble", of="door", code=error.code, message=error.message, mend=error.mend)
            return self._no(Refused(503, error.code, "The door cannot answer now; its log says why.", after=15))
        except Exception as error:  # one request's fault is nobody else's
            self.journal.note("bug", kind=type(error).__name__)
            return self._no(Refused(500, "bug", "This is a fault of the door."))

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
        given = request.headers.getall("Authorization", [])
        scheme, _, secret = (given[0] if len(given) == 1 else "").partition(" ")
        found = self.keys.of(secret) if scheme.lower() == "bearer" and 0 < len(secret) <= 256 else None
        if found is None:
            raise Refused(401, "no-key", "The key is missing, unknown, expired or revoked.")
        return found

    def _no(self, refused: Refused) -> web.Response:
        headers = {**refused.headers} | ({"Retry-After": str(refused.after)} if refused.after is not None else {})
        if refused.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        self.metrics.refused(refused.code)
        return web.Response(status=refused.status, body=refused.body(), content_type=JSON, headers=headers)

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != JSON or request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "not-json", "Send Content-Type: application/json, not compressed.")
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            most = self.limits.body_bytes
            raise Refused(413, "body-too-large", f"A body has at most {most} bytes.") from None
        except TimeoutError:
            raise Refused(408, "body-too-slow", "The body did not come in time.") from None

    def _served(self) -> Served:
        if self.follower.served is None:
            raise Refused(503, "not-ready", "Nothing is served yet.", after=5)
        return self.follower.served

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = read_request(await self._body(request))
        served = self._served()
        ready, route = self._routed(served, request, body)
        async with self._gate.turn(_name(request[CALLER])):
            return await _Exchange(self, request, ready, route, as_governed(body, ready.line.governed)).answer()

    def _routed(self, served: Served, request: web.Request, body: Mapping[str, Any]) -> tuple[Ready, Route]:
        route = served.rules.route(Asked(body["model"], readable(request.headers.items()), body))
        if route is None:
            known = sorted(name for name in served.clusters if _may(request, name))
            names = f" Models: {', '.join(known[:20])}." if known and not served.rules.count else ""
            raise Refused(404, "no-route", f"No rule takes this request, and none is guessed.{names}", param="model")
        if not _may(request, route.cluster):
            raise Refused(403, "outside-key", "This key is not for the cluster that the request belongs to.")
        ready = served.clusters.get(route.cluster)
        if ready is None:
            raise Refused(503, "cluster-not-ready", "The cluster's models are not ready.", after=15)
        return ready, route

    def decide(self, ready: Ready, route: Route) -> tuple[Decision, Arm]:
        """Who answers, and the note of it. A deployment that was taken back here gets nothing."""
        line = ready.line
        watched = None if line.watched and self.recorder.latched(line.watched.record) else line.watched
        key = route.key if route.key is not None else secrets.token_urlsafe(16)
        name, incumbent = line.cluster.cluster, line.incumbent
        if watched is None:
            arm, under_watch, share = incumbent, incumbent, 0.0
        else:
            chosen = assigned(key, name, watched.specialist, line.share)
            arm, under_watch, share = watched if chosen else incumbent, watched, line.share
        decision = self.recorder.decided(
            cluster=name,
            specialist=under_watch.specialist,
            incumbent=incumbent.specialist,
            record=under_watch.record,
            arm="specialist" if arm is watched else "incumbent",
            key=key,
            share=share,
            stage=line.stage if watched else "full",
        )
        return decision, arm

    async def _feedback(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        status, answer = await asyncio.to_thread(
            self.recorder.feedback, body, partial(_may, request), _name(request[CALLER])
        )
        headers = {"Retry-After": "1"} if status == 429 else {}
        return web.json_response(answer, status=status, headers=headers)

    async def _models(self, request: web.Request) -> web.Response:
        names = sorted(name for name in self._served().clusters if _may(request, name))
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "modelsmith"} for name in names]
        return web.json_response({"object": "list", "data": data})

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _ready(self, request: web.Request) -> web.Response:
        """Ready is a door that answers, even by an older main; then it says so.

        By which main it says where only this machine asks; nobody needs a key for this, so others are not told.
        """
        served, troubles = self.follower.served, self.follower.troubles
        counting = self.recorder.trouble
        if served is None or not served.clusters:
            return web.json_response({"status": "not ready"}, status=503, headers={"Retry-After": "5"})
        status = "ready" if not troubles and counting is None else "degraded"
        said = {"status": status, "trouble": sorted({e.code for e in troubles.values()}), "counting": counting is None}
        known = {"commit": served.commit} if self.keys is None else {}
        return web.json_response({**said, **known})

    async def _exposition(self, request: web.Request) -> web.Response:
        """Figures are of every cluster, so they are for who may ask every cluster."""
        caller = request[CALLER]
        if caller is not None and "*" not in caller.scopes:
            raise Refused(403, "outside-key", "These figures are of every cluster, and this key is not for all.")
        self.metrics.state(self.follower, self._gate)
        kind, data = self.recorder.exposition()
        return web.Response(body=data + self.metrics.exposition(), headers={"Content-Type": kind})


async def _signed(request: web.Request, response: web.StreamResponse) -> None:
    """Versions of libraries are nobody's business."""
    response.headers["Server"] = "modelsmith"


def _name(caller: Token | None) -> str:
    return caller.id if caller else ANYONE


def _may(request: web.Request, cluster: str) -> bool:
    caller = request[CALLER]
    return caller is None or any(fnmatch.fnmatchcase(cluster, scope) for scope in caller.scopes)


class _Exchange:
    """One request from its decision to its end, which is noted once, however it comes."""

    def __init__(self, door: Door, request: web.Request, ready: Ready, route: Route, body: Mapping[str, Any]) -> None:
        self._door, self._request, self._ready, self._route, self._body = door, request, ready, route, body
        self._begin = time.perf_counter()
        self._decision, self._arm = door.decide(ready, route)
        self._usage = Usage()
        self._first: float | None = None
        self._begun: web.StreamResponse | None = None
        """The stream that goes to the caller: from then on nobody else is asked."""
        self._answering: Arm | None = None
        self._failed: Down | None = None
        """Of the arm that was assigned."""
        self._status = HUNG_UP

    async def answer(self) -> web.StreamResponse:
        """The answer of the assigned arm, or of the incumbent where that one's backend gives none.

        Raises:
            Refused: nobody gave one.
        """
        try:
            async with asyncio.timeout(self._door.limits.total_seconds):
                return await self._of_someone()
        except Refused as refused:
            self._status = refused.status
            refused.headers = self._headers(self._arm)
            raise
        except TimeoutError:
            late = Refused(504, "too-long", "The answer took too long.", after=5)
            if self._begun is not None:
                return await self._break_off(self._begun, late)
            self._status = late.status
            late.headers = self._headers(self._arm)
            raise late from None
        except Exception:
            if self._begun is None:
                raise
            self._hang_up()
            return self._begun
        finally:
            self._note()

    async def _of_someone(self) -> web.StreamResponse:
        incumbent = self._ready.line.incumbent
        failure = Down(503, "none")
        for turn, arm in enumerate((self._arm, incumbent)):
            if turn and arm == self._arm:
                if not failure.again:
                    break
                await asyncio.sleep(PAUSE)
            try:
                return await self._of(arm)
            except Down as down:
                failure = down
                self._failed = self._failed or down
                self._door.metrics.down(self._ready.line.cluster.cluster, arm.specialist, down.reason)
        raise unavailable(failure)

    async def _of(self, arm: Arm) -> web.StreamResponse:
        self._usage = Usage()
        async with self._ready.model(arm).ask(self._body) as reply:
            if reply.content_type == EVENTS:
                return await self._stream(arm, reply)
            whole = bytearray()
            async for piece in reply.pieces:
                whole += piece
                if len(whole) > LARGEST_ANSWER:
                    raise Down(502, "too large", again=False)
            if reply.status == 200 and not is_answer(whole):
                raise Down(502, "no answer", again=False)
            self._usage.saw(bytes(whole))
            self._answering, self._status = arm, reply.status
            return web.Response(status=reply.status, body=bytes(whole), content_type=JSON, headers=self._headers(arm))

    async def _stream(self, arm: Arm, reply: Reply) -> web.StreamResponse:
        pieces = aiter(reply.pieces)
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            raise Down(502, "empty") from None
        self._usage.saw(piece)
        if self._usage.failed:
            raise Down(502, "no answer", again=False)
        headers = {**self._headers(arm), "Content-Type": EVENTS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        self._answering, self._begun = arm, web.StreamResponse(status=reply.status, headers=headers)
        await self._begun.prepare(self._request)
        self._first = self._milliseconds()
        while True:
            try:
                async with asyncio.timeout(self._door.limits.body_seconds):
                    await self._begun.write(piece)
            except TimeoutError:
                self._hang_up()
                return self._begun
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                break
            except Down as down:
                return await self._break_off(self._begun, unavailable(down))
            self._usage.saw(piece)
            if self._usage.failed:
                return await self._break_off(self._begun, unavailable(Down(502, "no answer")))
        if not self._usage.done:
            return await self._break_off(self._begun, unavailable(Down(502, "broke off")))
        await self._begun.write_eof()
        self._status = 200
        return self._begun

    async def _break_off(self, begun: web.StreamResponse, why: Refused) -> web.StreamResponse:
        """Say in the stream that it breaks off, and end it so that no client takes it for whole."""
        self._status = why.status
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(1.0):
                await begun.write(b"data: " + why.body() + b"\n\n")
        self._hang_up()
        return begun

    def _hang_up(self) -> None:
        if self._request.transport is not None:
            self._request.transport.close()

    def _headers(self, arm: Arm) -> dict[str, str]:
        """Who answers, and by which record."""
        headers = {"decision": self._decision.id, "cluster": self._decision.cluster, "specialist": arm.specialist}
        if arm.record:
            headers["record"] = arm.record
        if arm != self._arm:
            headers["failed-over-from"] = self._arm.specialist
        return {PREFIX + name: value for name, value in headers.items()}

    def _milliseconds(self) -> float:
        return (time.perf_counter() - self._begin) * 1000

    def _note(self) -> None:
        """Count the outcome for the arm that was assigned, whoever answered."""
        asked, answered = self._usage.tokens
        failed = self._failed if self._failed and self._answering != self._arm else None
        total = self._milliseconds()
        outcome = Answered(
            status=failed.status if failed else self._status,
            first_token_ms=self._first,
            total_ms=total,
            tokens_in=asked,
            tokens_out=answered,
            failed_over=self._answering not in (None, self._arm),
            hung_up=self._status == HUNG_UP and failed is None,
        )
        self._door.recorder.answered(self._decision, outcome)
        caller = self._request[CALLER]
        self._door.journal.note(
            "answered",
            decision=self._decision.id,
            cluster=self._decision.cluster,
            rule=self._route.rule,
            specialist=self._arm.specialist,
            answered_by=self._answering.specialist if self._answering else None,
            status=self._status,
            failed=self._failed.reason if self._failed else None,
            key=caller.id if caller else None,
            milliseconds=round(total, 1),
            tokens_in=asked,
            tokens_out=answered,
        )
