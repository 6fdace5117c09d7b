"""What the front door adds, beside a bare pass-through of the same server library, and beside nothing.

All three stand before one stub that answers at once (`chat_stub`), each in a process of its own, and are asked over
kept connections in turn. The bare one reads the JSON, renames the model, writes it anew and passes the answer on. The
door has its key, rules, share, decision, figures and log; the specialist is under watch by a rule with guards, so every
decision and answer goes to the store and is judged, and the format of answers is checked. With ``--litellm PROGRAM``
(``pip install 'litellm[proxy]'`` in an environment of its own) its proxy stands there, too, with a key and one model.
The bare one and the door are measured on Python's own event loop and on uvloop, which the door uses where it is
installed; LiteLLM brings its own loop.

Streams: so many at once, whose tokens come as events of their own, all in the same step: how many tokens come through
in a second, and what processor time each takes. And so many that have begun and say nothing more, and what each costs
the door in memory.

Rules: 1,000 of them, each with a condition of its own; a request that only the last one takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop
from aiohttp import web
from chat_stub import stub
from common import RESULTS, ROOT, machine, save, table

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
from modelsmith.governance.router import Asked, Rules
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
from modelsmith.schema.router import Router, Rule, StickyKey, When
from modelsmith.schema.source import Chat
from modelsmith.schema.watch import Guard
from modelsmith.schema.watch import Rule as Watch

CLUSTER = "rtb-pricing"
LOOPS = ("asyncio", "uvloop")
DOOR = "door on uvloop"
"""As it comes."""
GOAL_RATIO = 1.3
GOAL_RULES_MICROSECONDS = 50
FILES = 500
"""Open files of the door beside two for each stream: those that warm it, and all that it keeps room for."""
QUESTION = "Bid rate fell from 41 to 12 in a hundred at 02:00, and answers from Virginia arrive late. " * 12


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
    asked = {"model": "openai/other", "api_base": url, "api_key": "none"}
    config = {
        "model_list": [{"model_name": "m", "litellm_params": asked}],
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


async def hold_streams(url: str, key: str, number: int) -> tuple[list[asyncio.StreamWriter], float]:
    """So many streams that have begun; their connections, and the seconds that it took."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}).encode()
    begin, room = time.perf_counter(), asyncio.Semaphore(200)

    async def one(number: int) -> asyncio.StreamWriter:
        async with room:
            reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            head += f"Authorization: Bearer {key}\r\nX-User: {number}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            told = await reader.readuntil(b"data: ")
            if b" 200 " not in told.split(b"\r\n", 1)[0]:
                raise RuntimeError(told.decode())
            return writer

    return list(await asyncio.gather(*map(one, range(number)))), time.perf_counter() - begin


def stream_memory(folder: Path, key: str, number: int) -> dict[str, float]:
    """KiB of the door for each of so many streams that say nothing."""
    command = [sys.executable, __file__, "--serve", "quiet", "", str(folder)]
    backend = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert backend.stdin
    assert backend.stdout
    url = f"http://127.0.0.1:{int(backend.stdout.readline())}/v1"
    try:
        with subject("door", url, folder) as (where, process):

            async def measured() -> dict[str, float]:
                warm, _ = await hold_streams(where, key, 50)
                before = process.memory_info().rss
                held, seconds = await hold_streams(where, key, number)
                used = process.memory_info().rss - before
                for writer in (*warm, *held):
                    writer.close()
                return {"streams": number, "kib_each": used / 1024 / number, "seconds_to_begin": seconds}

            return asyncio.run(measured())
    finally:
        backend.stdin.close()
        backend.wait()


def door(session: aiohttp.ClientSession, url: str, folder: Path, keys: Tokens) -> web.Application:
    """The door before two models of the stub, half of the requests each."""
    arms = Arm("iter-001-0000000a", None, "sha256:" + "a" * 64), Arm("iter-002-0000000b", None, "sha256:" + "b" * 64)
    governed = Governed("Be brief.", Sampling(max_new_tokens=64), Chat())
    cluster = load_cluster(WorkTree(ROOT), CLUSTER)
    points = format_points(load_eval_set(WorkTree(ROOT), cluster.eval_set).rubric.points)
    line = Line(cluster, "c" * 40, *arms, 0.5, governed, Format(points, Chat()))
    first, second = (HttpModel(session, url, arm.specialist) for arm in arms)
    rule = Rule(name="all", cluster=CLUSTER, key=StickyKey(header="x-user"))
    follower = Follower(Workspace(ROOT), _no_model, lambda commit: None, lambda what, error: None)
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


async def serve(what: str, url: str, folder: Path) -> None:
    """Be one of the subjects until standard input closes."""
    is_bare = what == "bare"
    async with _plain() if is_bare else backends(Room(raise_limit(), 512, _no_room)) as session:
        app = bare(session, url) if is_bare else door(session, url, folder, callers(folder))
        async with listening(app, web.AppRunner if is_bare else Runner) as port:
            print(port, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def subject(what: str, url: str, folder: Path, loop: str = "uvloop") -> Iterator[tuple[str, psutil.Process]]:
    """A subject in a process of its own; its base URL, and the process."""
    command = [sys.executable, __file__, "--serve", what, url, str(folder), "--loop", loop]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", psutil.Process(process.pid)
    finally:
        process.stdin.close()
        process.wait()


async def ask(url: str, key: str, connections: int, seconds: float) -> tuple[list[float], float]:
    """Milliseconds of each request, over so many connections at once; and how many were answered in a second.

    None is begun after ``seconds``; the last ones may end long after.
    """
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}).encode()
    start = time.perf_counter()
    end = start + seconds
    found: list[float] = []

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {key}\r\nX-User: {number}\r\nContent-Length: {len(body)}\r\n\r\n"
        while (begin := time.perf_counter()) < end:
            writer.write(head.encode() + body)
            told = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in told.split(b"\r\n", 1)[0]:
                raise RuntimeError(told.decode())
            length = int(told.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            found.append((time.perf_counter() - begin) * 1000)
        writer.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    return found, len(found) / (time.perf_counter() - start)


async def ask_streams(url: str, key: str, streams: int, tokens: int) -> float:
    """Tokens that came in a second, over so many streams at once, each read to its end."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    asked = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": tokens, "stream": True}
    body = json.dumps(asked).encode()

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {key}\r\nX-User: {number}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        told = b""
        while not told.endswith(b"\r\n0\r\n\r\n"):
            piece = await reader.read(1 << 16)
            if not piece:
                raise RuntimeError("a stream broke off")
            told += piece
        writer.close()
        return told.count(b" token")

    begin = time.perf_counter()
    came = sum(await asyncio.gather(*map(one, range(streams))))
    if came != streams * tokens:
        raise RuntimeError(f"{came} tokens of {streams * tokens} came")
    return came / (time.perf_counter() - begin)


def stream_tokens(
    subjects: Mapping[str, tuple[str, psutil.Process | None]], key: str, streams: int, tokens: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Tokens a second through each subject, and its microseconds of processor time for each; medians."""
    rates: dict[str, list[float]] = {what: [] for what in subjects}
    spent: dict[str, list[float]] = {what: [] for what in subjects}
    for _ in range(repeats):
        for what, (url, process) in subjects.items():
            before = process and sum(process.cpu_times()[:2])
            rates[what].append(asyncio.run(ask_streams(url, key, streams, tokens)))
            used = sum(process.cpu_times()[:2]) - before if process else 0.0
            spent[what].append(used * 1e6 / (streams * tokens))
    return {
        what: {"tokens_per_second": statistics.median(rates[what]), "cpu_us": statistics.median(spent[what])}
        for what in subjects
    }


def rules_microseconds() -> float:
    """One request against 1,000 rules, of which the last takes it."""
    rules = [
        Rule(name=f"r{n}", when=When(metadata={"tenant": f"t{n}"}, last_message="bid|price"), cluster=CLUSTER)
        for n in range(1000)
    ]
    made = Rules(Router(rules=tuple(rules)), [CLUSTER])
    body = {"messages": [{"role": "user", "content": "the price of a bid"}], "metadata": {"tenant": "t999"}}
    asked = Asked("m", {}, body)
    assert (made.route(asked) or asked)[1] == "r999"
    times = []
    for _ in range(2000):
        begin = time.perf_counter()
        made.route(asked)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def _named(what: str, loop: str) -> str:
    return f"{what} on {loop}"


def _beside_bare(results: dict[str, Any], loop: str, connections: int, unit: str) -> float:
    mine, bare = (results[f"{_named(what, loop)}, {connections}"][unit] for what in ("door", "bare"))
    return float(mine / bare)


def _added(results: dict[str, Any], what: str, connections: int) -> float:
    """Milliseconds that a subject adds at the median."""
    return float(results[f"{what}, {connections}"]["p50_ms"] - results[f"nothing between, {connections}"]["p50_ms"])


def main() -> None:
    """Measure in turn, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32, 512])
    parser.add_argument("--litellm", metavar="PROGRAM")
    parser.add_argument("--tokens", type=int, nargs=2, default=[64, 400], metavar=("STREAMS", "TOKENS"))
    parser.add_argument("--streams", type=int, default=9_000)
    parser.add_argument("--serve", nargs=3, metavar=("WHAT", "URL", "FOLDER"))
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    given = parser.parse_args()
    limit = raise_limit()
    if given.serve:
        what, url, place = given.serve
        sys.setswitchinterval(SWITCH_SECONDS if what == "door" else sys.getswitchinterval())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if given.loop == "uvloop" else None) as runner:
            runner.run(quiet_backend() if what == "quiet" else serve(what, url, Path(place)))
        return
    facts = machine("aiohttp", "prometheus-client", "google-re2", "uvloop")
    load_before = os.getloadavg()[0]
    rows: list[tuple[object, ...]] = []
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, stub(0) as url, contextlib.ExitStack() as stack:
        folder = Path(name)
        key = callers(folder).issue("caller", (CLUSTER,), 1)[1]
        subjects: dict[str, tuple[str, psutil.Process | None]] = {"nothing between": (url, None)}
        for loop in LOOPS:
            for what in ("bare", "door"):
                own = folder / f"{what}-{loop}"
                shutil.copytree(folder, own, ignore=shutil.ignore_patterns("*-*"))
                subjects[_named(what, loop)] = stack.enter_context(subject(what, url, own, loop))
        if given.litellm:
            subjects["litellm"] = stack.enter_context(litellm(given.litellm, url, folder, key))
        for connections in given.connections:
            found: dict[str, list[list[float]]] = {what: [] for what in subjects}
            rates: dict[str, list[float]] = {what: [] for what in subjects}
            spent = dict.fromkeys(subjects, 0.0)
            for _ in range(given.repeats):
                for what, (where, process) in subjects.items():
                    before = process and sum(process.cpu_times()[:2])
                    run, rate = asyncio.run(ask(where, key, connections, given.seconds))
                    found[what].append(run)
                    rates[what].append(rate)
                    spent[what] += sum(process.cpu_times()[:2]) - before if process else 0.0
            for what, runs in found.items():
                p50, p99 = (
                    statistics.median(sorted(run)[int(len(run) * part)] for run in runs) for part in (0.5, 0.99)
                )
                rate = statistics.median(rates[what])
                cpu = spent[what] * 1000 / sum(map(len, runs))
                rows.append(
                    (f"{what}, {connections} at once", round(p50, 3), round(p99, 2), round(rate), round(cpu, 2))
                )
                measured = {"p50_ms": p50, "p99_ms": p99, "per_second": rate, "cpu_ms": cpu}
                results[f"{what}, {connections}"] = measured
        streams_at_once, tokens_each = given.tokens
        streamed = stream_tokens(subjects, key, streams_at_once, tokens_each, given.repeats)
    ratios, cpus = (
        {loop: {n: _beside_bare(results, loop, n, unit) for n in given.connections} for loop in LOOPS}
        for unit in ("p50_ms", "cpu_ms")
    )
    micro = rules_microseconds()
    goals = {
        "p50_ratio_at_most": GOAL_RATIO,
        "p50_met": max(max(some.values()) for some in ratios.values()) <= GOAL_RATIO,
        "rules_microseconds_at_most": GOAL_RULES_MICROSECONDS,
        "rules_met": micro <= GOAL_RULES_MICROSECONDS,
    }
    beside = {
        str(n): {
            "added_p50": _added(results, "litellm", n) / _added(results, DOOR, n),
            "rate": results[f"{DOOR}, {n}"]["per_second"] / results[f"litellm, {n}"]["per_second"],
            "cpu": results[f"litellm, {n}"]["cpu_ms"] / results[f"{DOOR}, {n}"]["cpu_ms"],
        }
        for n in given.connections
        if f"litellm, {n}" in results
    }
    figures = {
        "times_litellm": beside,
        "milliseconds": results,
        "p50_ratio": ratios,
        "cpu_ratio": cpus,
        "rules_1000_microseconds": micro,
        "stream_tokens": streamed,
    }
    print(table(("milliseconds", "p50", "p99", "a second", "cpu each"), rows))
    print(f"\nload of the machine: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after")
    for loop in LOOPS:
        for what, some in (("p50", ratios[loop]), ("processor time", cpus[loop])):
            print(f"{loop}: ratio of {what} to bare: {', '.join(f'{r:.2f} at {n}' for n, r in some.items())}")
    for n, one in beside.items():
        print(
            f"LiteLLM at {n}: {one['added_p50']:.1f} times the added p50, {one['rate']:.1f} times fewer a second, "
            f"{one['cpu']:.1f} times the processor time"
        )
    print(f"1,000 rules: {micro:.1f} us\n")
    stream_rows = [(what, round(one["tokens_per_second"]), round(one["cpu_us"], 1)) for what, one in streamed.items()]
    named = f"{streams_at_once} streams of {tokens_each} tokens"
    print(table((named, "tokens a second", "us each"), stream_rows), flush=True)
    streams = None
    if limit < (needed := 2 * given.streams + FILES):
        print(f"{given.streams:,} quiet streams need a limit of {needed:,} open files (`ulimit -Hn`); it is {limit:,}")
    else:
        with tempfile.TemporaryDirectory() as name:
            key = callers(Path(name)).issue("caller", (CLUSTER,), 1)[1]
            streams = stream_memory(Path(name), key, given.streams)
        print(f"{given.streams:,} quiet streams: {streams['kib_each']:.0f} KiB each")
    save(RESULTS / "door.json", {"machine": facts, **figures, "streams": streams, "goal": goals})


if __name__ == "__main__":
    main()
