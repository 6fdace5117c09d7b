"""What the benchmark of the front door asks, each in a process of its own: the door, a bare pass-through, LiteLLM's
proxy, and a backend whose streams begin and say nothing more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import psutil
import uvloop
from aiohttp import web
from common import ROOT

from modelsmith.door.app import Door
from modelsmith.door.asking import Governed
from modelsmith.door.backends import backends
from modelsmith.door.connection import Runner
from modelsmith.door.exchange import Counting
from modelsmith.door.follow import Follower, Ready, Served
from modelsmith.door.format_checks import Format, FormatChecks
from modelsmith.door.http_upstream import HttpModel
from modelsmith.door.journal import Journal
from modelsmith.door.lines import Line
from modelsmith.door.metrics import DoorMetrics
from modelsmith.door.room import Room, raise_limit
from modelsmith.door.server import SWITCH_SECONDS
from modelsmith.door.settings import Limits
from modelsmith.door.shadow import Shadows
from modelsmith.door.upstream import Model
from modelsmith.governance.router import Rules
from modelsmith.live.recorder import LiveRecorder
from modelsmith.live.watching import Watching
from modelsmith.points.format_points import format_points
from modelsmith.promotion.serving import Arm
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tokens import Tokens, callers
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.router import Router, Rule, StickyKey
from modelsmith.schema.source import Chat
from modelsmith.schema.watch import Guard
from modelsmith.schema.watch import Rule as Watch

CLUSTER = "rtb-pricing"
LOOPS = ("asyncio", "uvloop")


@contextlib.asynccontextmanager
async def listening(app: web.Application, kind: type[web.AppRunner] = web.AppRunner) -> AsyncIterator[int]:
    runner = kind(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def bare(session: aiohttp.ClientSession, url: str) -> web.Application:
    """The least that a pass-through does."""

    async def chat(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        body["model"] = "other"
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{url}/chat/completions", data=json.dumps(body), headers=headers) as answer:
            if not body.get("stream"):
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
            out = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
            await out.prepare(request)
            async for piece in answer.content.iter_any():
                await out.write(piece)
            await out.write_eof()
            return out

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    return app


def _plain() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)


def _no_room() -> None:
    print("the door has no room for a connection", file=sys.stderr)


async def _no_model(line: Line, arm: Arm) -> Model:
    raise NotImplementedError


def litellm_config(folder: Path, url: str, key: str) -> Path:
    """One model, the same key for callers, no log of requests."""
    fields = {"model": "openai/other", "api_base": url, "api_key": "none"}
    config = {
        "model_list": [{"model_name": "m", "litellm_params": fields}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"set_verbose": False, "num_retries": 0, "telemetry": False},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))
    return path


@contextlib.contextmanager
def litellm(program: str, url: str, folder: Path, key: str) -> Iterator[tuple[str, psutil.Process]]:
    """LiteLLM's proxy, one worker, as it comes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = litellm_config(folder, url, key)
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    quiet = {**os.environ, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=quiet)
    try:
        end = time.monotonic() + 600
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def _quiet(request: web.Request) -> web.StreamResponse:
    """A stream that begins, and says nothing more."""
    out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await out.prepare(request)
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
    head = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    await out.write(b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n")
    await asyncio.sleep(3600)
    return out


async def quiet_backend() -> None:
    """Serve such streams until standard input closes."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _quiet)
    async with listening(app) as port:
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def door(session: aiohttp.ClientSession, url: str, folder: Path, keys: Tokens) -> web.Application:
    """The door before two models of the stub, half of the requests each."""
    arms = Arm("iter-001-0000000a", None, "sha256:" + "a" * 64), Arm("iter-002-0000000b", None, "sha256:" + "b" * 64)
    governed = Governed("Be brief.", Sampling(max_new_tokens=64), Chat())
    cluster = load_cluster(WorkTree(ROOT), CLUSTER)
    points = format_points(load_eval_set(WorkTree(ROOT), cluster.eval_set).rubric.points)
    line = Line(cluster, "c" * 40, *arms, 0.5, governed, Format(points, Chat()))
    first, second = (HttpModel(session, url, arm.specialist) for arm in arms)
    rule = Rule(name="all", cluster=CLUSTER, key=StickyKey(header="x-user"))
    follower = Follower(Workspace(ROOT), _no_model, lambda commit: None, lambda topic, error: None)
    follower.served = Served("c" * 40, Rules(Router(rules=(rule,)), [CLUSTER]), {CLUSTER: Ready(line, first, second)})
    recorder = LiveRecorder(folder / "live", b"k" * 32)
    watch = Watch(least_decisions=10**9, errors=Guard(max_rise=0.05), format=Guard(max_rise=0.05))
    terms = Rollback(metric="won", max_drop=0.2, window_minutes=600, manual_hours=48, rule=watch)
    recorder.follow([Watching(CLUSTER, arms[1].specialist, arms[1].record, terms, datetime.now(UTC))])
    limits = Limits(at_once=20_000)
    formats = FormatChecks(limits.checked_at_once)
    counting = Counting(
        limits, recorder, Journal(folder / "log.jsonl"), DoorMetrics(), formats, Shadows(limits, recorder, formats)
    )
    return Door(follower, counting, frozenset(), keys).app()


async def serve(kind: str, url: str, folder: Path) -> None:
    """Be one of the subjects until standard input closes."""
    is_bare = kind == "bare"
    async with _plain() if is_bare else backends(Room(raise_limit(), 512, _no_room)) as session:
        app = bare(session, url) if is_bare else door(session, url, folder, callers(folder))
        async with listening(app, web.AppRunner if is_bare else Runner) as port:
            print(port, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def subject(subject_name: str, url: str, folder: Path, loop: str = "uvloop") -> Iterator[tuple[str, psutil.Process]]:
    """A subject in a process of its own; its base URL, and the process."""
    command = [sys.executable, __file__, subject_name, url, str(folder), loop]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", psutil.Process(process.pid)
    finally:
        process.stdin.close()
        process.wait()


def main() -> None:
    """Be the subject that the arguments name."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("bare", "door", "quiet"))
    parser.add_argument("url", help="of the backend")
    parser.add_argument("folder", type=Path, help="of its keys and what it keeps")
    parser.add_argument("loop", choices=LOOPS)
    arguments = parser.parse_args()
    raise_limit()
    sys.setswitchinterval(SWITCH_SECONDS if arguments.what == "door" else sys.getswitchinterval())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if arguments.loop == "uvloop" else None) as runner:
        runner.run(
            quiet_backend() if arguments.what == "quiet" else serve(arguments.what, arguments.url, arguments.folder)
        )


if __name__ == "__main__":
    main()
