"""What the front door adds, beside a bare pass-through of the same server library, and beside nothing.

All three stand before one stub that answers at once (`chat_stub`), each in a process of its own, and are asked over
kept connections in turn. The bare one reads the JSON, renames the model, writes it anew and passes the answer on. The
door has its key, rules, share, decision, figures and log. Nothing is under watch, so no decision goes to the store.

Rules: 1,000 of them, each with a condition of its own; a request that only the last one takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from chat_stub import stub
from common import RESULTS, ROOT, machine, save, table

from modelsmith.door.app import Door
from modelsmith.door.asking import Governed
from modelsmith.door.exchange import Counting
from modelsmith.door.follow import Follower, Ready, Served
from modelsmith.door.format_checks import Format, FormatChecks
from modelsmith.door.http_upstream import HttpModel
from modelsmith.door.journal import Journal
from modelsmith.door.lines import Line
from modelsmith.door.metrics import DoorMetrics
from modelsmith.door.settings import Limits
from modelsmith.door.shadow import Shadows
from modelsmith.door.upstream import Model
from modelsmith.governance.router import Asked, Rules
from modelsmith.live.recorder import LiveRecorder
from modelsmith.promotion.serving import Arm
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tokens import Tokens, callers
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.router import Router, Rule, StickyKey, When
from modelsmith.schema.source import Chat

CLUSTER = "rtb-pricing"
GOAL_RATIO = 1.3
GOAL_RULES_MICROSECONDS = 50
QUESTION = "Bid rate fell from 41 to 12 in a hundred at 02:00, and answers from Virginia arrive late. " * 12


@contextlib.asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def bare(session: aiohttp.ClientSession, url: str) -> web.Application:
    """The least that a pass-through does."""

    async def chat(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        body["model"] = "other"
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{url}/chat/completions", data=json.dumps(body), headers=headers) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    return app


async def _no_model(line: Line, arm: Arm) -> Model:
    raise NotImplementedError


def door(session: aiohttp.ClientSession, url: str, folder: Path, keys: Tokens) -> web.Application:
    """The door before two models of the stub, half of the requests each."""
    arms = Arm("iter-001-0000000a", None, "sha256:" + "a" * 64), Arm("iter-002-0000000b", None, "sha256:" + "b" * 64)
    governed = Governed("Be brief.", Sampling(max_new_tokens=64), Chat())
    line = Line(load_cluster(WorkTree(ROOT), CLUSTER), "c" * 40, *arms, 0.5, governed, Format((), Chat()))
    first, second = (HttpModel(session, url, arm.specialist) for arm in arms)
    rule = Rule(name="all", cluster=CLUSTER, key=StickyKey(header="x-user"))
    follower = Follower(Workspace(ROOT), _no_model, lambda commit: None, lambda what, error: None)
    follower.served = Served("c" * 40, Rules(Router(rules=(rule,)), [CLUSTER]), {CLUSTER: Ready(line, first, second)})
    recorder = LiveRecorder(folder / "live", b"k" * 32)
    limits = Limits(at_once=2048)
    formats = FormatChecks(limits.checked_at_once)
    counting = Counting(
        limits, recorder, Journal(folder / "log.jsonl"), DoorMetrics(), formats, Shadows(limits, recorder, formats)
    )
    return Door(follower, counting, frozenset(), keys).app()


async def serve(what: str, url: str, folder: Path) -> None:
    """Be one of the subjects until standard input closes."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        app = bare(session, url) if what == "bare" else door(session, url, folder, callers(folder))
        async with listening(app) as port:
            print(port, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def subject(what: str, url: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A subject in a process of its own; its base URL, and the process."""
    command = [sys.executable, __file__, "--serve", what, url, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", psutil.Process(process.pid)
    finally:
        process.stdin.close()
        process.wait()


async def ask(url: str, key: str, connections: int, seconds: float) -> list[float]:
    """Milliseconds of each request, over so many connections at once."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}).encode()
    end = time.perf_counter() + seconds
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
    return found


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


def main() -> None:
    """Measure in turn, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--serve", nargs=3, metavar=("WHAT", "URL", "FOLDER"))
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve[0], given.serve[1], Path(given.serve[2])))
        return
    facts = machine("aiohttp", "prometheus-client", "google-re2")
    rows: list[tuple[object, ...]] = []
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, stub(0) as url, contextlib.ExitStack() as stack:
        folder = Path(name)
        key = callers(folder).issue("caller", (CLUSTER,), 1)[1]
        subjects: dict[str, tuple[str, psutil.Process | None]] = {"nothing between": (url, None)}
        subjects |= {what: stack.enter_context(subject(what, url, folder)) for what in ("bare", "door")}
        for connections in given.connections:
            found: dict[str, list[list[float]]] = {what: [] for what in subjects}
            spent = dict.fromkeys(subjects, 0.0)
            for _ in range(given.repeats):
                for what, (where, process) in subjects.items():
                    before = process and sum(process.cpu_times()[:2])
                    found[what].append(asyncio.run(ask(where, key, connections, given.seconds)))
                    spent[what] += sum(process.cpu_times()[:2]) - before if process else 0.0
            for what, runs in found.items():
                p50, p99 = (
                    statistics.median(sorted(run)[int(len(run) * part)] for run in runs) for part in (0.5, 0.99)
                )
                rate = statistics.median(len(run) / given.seconds for run in runs)
                cpu = spent[what] * 1000 / sum(map(len, runs))
                rows.append(
                    (f"{what}, {connections} at once", round(p50, 3), round(p99, 2), round(rate), round(cpu, 2))
                )
                measured = {"p50_ms": p50, "p99_ms": p99, "per_second": rate, "cpu_ms": cpu}
                results[f"{what}, {connections}"] = measured
    ratios = {n: results[f"door, {n}"]["p50_ms"] / results[f"bare, {n}"]["p50_ms"] for n in given.connections}
    micro = rules_microseconds()
    goals = {
        "p50_ratio_at_most": GOAL_RATIO,
        "p50_met": max(ratios.values()) <= GOAL_RATIO,
        "rules_microseconds_at_most": GOAL_RULES_MICROSECONDS,
        "rules_met": micro <= GOAL_RULES_MICROSECONDS,
    }
    cpus = {n: results[f"door, {n}"]["cpu_ms"] / results[f"bare, {n}"]["cpu_ms"] for n in given.connections}
    figures = {"milliseconds": results, "p50_ratio": ratios, "cpu_ratio": cpus, "rules_1000_microseconds": micro}
    save(RESULTS / "door.json", {"machine": facts, **figures, "goal": goals})
    print(table(("milliseconds", "p50", "p99", "a second", "cpu each"), rows))
    print(f"\nratio of p50 to bare: {', '.join(f'{r:.2f} at {n}' for n, r in ratios.items())}")
    print(f"ratio of processor time to bare: {', '.join(f'{r:.2f} at {n}' for n, r in cpus.items())}")
    print(f"1,000 rules: {micro:.1f} us")


if __name__ == "__main__":
    main()
