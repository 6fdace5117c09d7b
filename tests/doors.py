"""A front door with real sockets before two invented servers of OpenAI's API, one for each arm."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import openai
from aiohttp import web

from modelsmith.door.app import Door
from modelsmith.door.asking import Governed
from modelsmith.door.backends import backends
from modelsmith.door.connection import Runner
from modelsmith.door.exchange import Counting
from modelsmith.door.follow import Ready, Served
from modelsmith.door.format_checks import Format, FormatChecks
from modelsmith.door.http_upstream import HttpModel
from modelsmith.door.journal import Journal
from modelsmith.door.lines import Line
from modelsmith.door.metrics import DoorMetrics
from modelsmith.door.room import Room
from modelsmith.door.server import loop_factory
from modelsmith.door.settings import Limits
from modelsmith.door.shadow import Shadows
from modelsmith.door.telemetry import Telemetry
from modelsmith.door.upstream import FREE, Price
from modelsmith.governance.router import Rules
from modelsmith.live.port import Answered, Copies, Decision
from modelsmith.live.recorder import LiveRecorder
from modelsmith.live.watching import Watching
from modelsmith.promotion.serving import Arm
from modelsmith.repository.tokens import Tokens
from modelsmith.schema.cluster import Cluster, Deployment, Rollback
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.router import Router
from modelsmith.schema.rubric import RubricPoint
from modelsmith.schema.source import BaseModelSource, Chat
from modelsmith.schema.watch import Guard, Rule

ZERO = "sha256:" + "0" * 64
CLUSTER = "pricing"
INCUMBENT = Arm("iter-001-0000000a", ZERO, "sha256:" + "a" * 64)
WATCHED = Arm("iter-002-0000000b", ZERO, "sha256:" + "b" * 64)
SHADOW = Arm("iter-003-0000000c", ZERO, "sha256:" + "c" * 64)
ASKED = {"model": CLUSTER, "messages": [{"role": "user", "content": "Why?"}]}


def line(
    share: float | None = None, name: str = CLUSTER, points: tuple[RubricPoint, ...] = (), copied: float = 0.0
) -> Line:
    """A cluster's traffic; without a share nobody is under watch, and without one of copies nobody in the shadow."""
    cluster = Cluster.model_construct(
        cluster=name,
        base_model=BaseModelSource(name="tiny", uri="file://x", digest=ZERO, license="MIT"),
        deployment=Deployment(shadow_share=copied),
    )
    governed = Governed("Be brief.", Sampling(max_new_tokens=16), Chat())
    watched, answer_format = WATCHED if share is not None else None, Format(points, Chat(thinking="strip"))
    return Line(
        cluster,
        "c" * 40,
        INCUMBENT,
        watched,
        share or 0.0,
        governed,
        answer_format,
        shadow=SHADOW if copied else None,
        shadowed_as=SHADOW.record,
    )


@dataclass
class Listed:
    """A recorder that keeps everything in lists."""

    decisions: list[Decision] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    ends: list[tuple[Decision, Answered]] = field(default_factory=list)
    taken_back: set[str] = field(default_factory=set)
    trouble: str | None = None

    def decided(self, *, key: str, **fields: Any) -> Decision:
        self.keys.append(key)
        self.decisions.append(Decision(id=f"d{len(self.keys)}", unit=key, at=datetime.now(UTC), **fields))
        return self.decisions[-1]

    def answered(self, decision: Decision, answered: Answered) -> None:
        self.ends.append((decision, answered))

    def feedback(self, body: bytes, may: Callable[[str], bool], sender: str) -> tuple[int, dict[str, Any]]:
        return 200, {"bytes": len(body), "may": [name for name in ("pricing", "traffic-1") if may(name)]}

    def copies(self, record: str) -> Copies:
        return Copies(
            record, sum(decision.arm == "specialist" and decision.record == record for decision in self.decisions)
        )

    def latched(self, record: str) -> bool:
        return record in self.taken_back

    def exposition(self) -> tuple[str, bytes]:
        return "text/plain; version=0.0.4", b"# counted\n"


class Backend:
    """A server of OpenAI's API that does as a test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.sent = 0
        """Events of streams so far."""
        self.stopped: list[int] = []
        """Events after which somebody hung up on it."""
        self.status = 200
        self.answer_headers: dict[str, str] = {}
        self.events = 5
        self.pause = 0.0
        self.hold: asyncio.Event | None = None
        """Until then nothing is answered."""
        self.dies_after: int | None = None
        self.piece = "x"
        self.says: dict[str, Any] | None = None
        """Instead of the usual message."""
        self.finish = "stop"
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Backend]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.asked.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        await asyncio.sleep(self.pause)
        if self.hold is not None:
            await self.hold.wait()
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status)
        if body.get("stream"):
            return await self._stream(request)
        message = self.says or {"role": "assistant", "content": f"from {body['model']}"}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        answer = {"id": "a", "object": "chat.completion", "created": 1, "model": body["model"], "usage": usage}
        choices = [{"index": 0, "message": message, "finish_reason": self.finish}]
        return web.json_response({**answer, "choices": choices}, headers=self.answer_headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        out = web.StreamResponse(headers={"Content-Type": "text/event-stream", **self.answer_headers})
        await out.prepare(request)
        count = 0
        try:
            for count in range(self.events):
                if count == self.dies_after:
                    request.transport.abort()
                    return out
                await out.write(event(self.piece))
                self.sent += 1
                await asyncio.sleep(self.pause)
            await out.write(event("", "stop") + b"data: [DONE]\n\n")
        except BaseException:
            self.stopped.append(count)
            raise
        return out


def event(text: str, finish: str | None = None) -> bytes:
    """One event of a stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    head = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


class Following:
    """Stands for the follower: what is served is given."""

    def __init__(self, served: Served | None) -> None:
        self.served = served
        self.troubles: dict[str, Any] = {}
        self.reloads = 0


@dataclass
class Opened:
    """A door that listens, with an incumbent and a watched specialist behind it."""

    url: str
    port: int
    door: Door
    recorder: Listed
    incumbent: Backend
    specialist: Backend
    shadow: Backend
    session: aiohttp.ClientSession
    log: Path

    points: tuple[RubricPoint, ...] = ()
    """Whose format the door checks."""
    silence_seconds: float = 60.0
    """For which a specialist that is served from here on may say nothing."""
    price: Price = FREE
    """Of a token, whoever answers."""
    copied: float = 0.0
    """Share of the incumbent's requests that the shadow gets a copy of."""
    obey: Callable[[Arm, Arm | None, float], Awaitable[None]] | None = None
    """What a newer main does, for doors that have one."""

    def ready(self, share: float | None, name: str = CLUSTER) -> Ready:
        """A cluster before the two."""
        backends = {"incumbent": self.incumbent, "specialist": self.specialist, "shadow": self.shadow}
        first, second, third = (
            HttpModel(
                self.session,
                backend.url,
                model,
                silence_seconds=self.silence_seconds if model == "specialist" else 60.0,
                price=self.price,
            )
            for model, backend in backends.items()
        )
        line_asked = line(share, name, self.points, self.copied)
        return Ready(line_asked, first, second if share is not None else None, third if self.copied else None)

    def serve(self, share: float | None, router: Router | None = None, *more: str) -> None:
        """Serve the cluster with this share for the specialist, by these rules."""
        clusters = {name: self.ready(share, name) for name in (CLUSTER, *more)}
        self.door.follower.served = Served("c" * 40, Rules(router, clusters), clusters)

    async def ask(self, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of an answer."""
        data = body if isinstance(body, bytes) else json.dumps(ASKED | (body or {})).encode()
        sent_headers = {"Content-Type": "application/json"} | headers
        async with self.session.post(f"{self.url}/chat/completions", data=data, headers=sent_headers) as answer:
            return answer.status, dict(answer.headers), json.loads(await answer.read())


@asynccontextmanager
async def opened(
    folder: Path,
    limits: Limits | None = None,
    keys: Tokens | None = None,
    telemetry: Telemetry | None = None,
    small_buffers: bool = False,
) -> AsyncIterator[Opened]:
    """A door with two servers behind it; everything is the specialist's.

    With small buffers, a caller that reads nothing is felt at once.
    """
    recorder, incumbent, specialist, shadow = Listed(), Backend(), Backend(), Backend()
    journal = Journal(folder / "door.jsonl")
    hosts: set[str] = set()
    bounds = limits or Limits()
    formats = FormatChecks(bounds.checked_at_once)
    shadows = Shadows(bounds, recorder, formats)
    counting = Counting(bounds, recorder, journal, DoorMetrics(), formats, shadows, telemetry)
    door = Door(Following(None), counting, hosts, keys)  # type: ignore[arg-type]
    runner = Runner(door.app(), handler_cancellation=True, access_log=None, shutdown_timeout=2.0)
    async with (
        incumbent.running(),
        specialist.running(),
        shadow.running(),
        backends(Room(1 << 20, bounds.at_once, lambda: None)) as session,
    ):
        await runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        if small_buffers:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        await web.SockSite(runner, listening).start()
        port = runner.addresses[0][1]
        hosts.add(f"127.0.0.1:{port}")
        opened_door = Opened(
            f"http://127.0.0.1:{port}/v1",
            port,
            door,
            recorder,
            incumbent,
            specialist,
            shadow,
            session,
            folder / "door.jsonl",
        )
        opened_door.serve(1.0)
        try:
            yield opened_door
        finally:
            await runner.cleanup()
            await shadows.close()
            formats.close()
            journal.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(100):
        while not true():
            await asyncio.sleep(0.01)


_clients: list[openai.AsyncOpenAI] = []


def client(url: str, key: str = "none") -> openai.AsyncOpenAI:
    """The official client, which asks once; it is closed with the scene."""
    _clients.append(openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0))
    return _clients[-1]


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scene to its end, in a loop of its own."""

    async def whole() -> None:
        try:
            await scene()
        finally:
            while _clients:
                await _clients.pop().close()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:  # the loop that the door has
        runner.run(whole())


def measured(door, folder):
    """The door counts from now on, by a rule that is approved a moment ago."""
    rule = Rule(least_decisions=20, errors=Guard(max_rise=0.05))
    terms = Rollback(metric="won", max_drop=0.2, window_minutes=60, manual_hours=48, rule=rule)
    recorder = LiveRecorder(folder / "live", bytes(32))
    recorder.follow([Watching(CLUSTER, WATCHED.specialist, WATCHED.record, terms, datetime.now(UTC))])
    was = door.door.counting
    door.door.counting = replace(was, recorder=recorder, shadows=Shadows(was.limits, recorder, was.formats))
    return recorder
