"""Events to many readers by Server-Sent Events, by MCP subscriptions and by webhooks, beside bare peers.

Stream: ten readers and one that reads nothing follow the whole ledger at `modelsmith mcp --http`, and at a server that
sends the same rows by the same SSE library (`events_bare.py`). Each reader checks that no event is missing and that
all come in order. Subscribers: ten clients of the Model Context Protocol at the same server, each told by
`subscriptions/listen` that there is more, and reading page after page while more events come. Webhooks: `webhooks
deliver` to one receiver of this machine, beside a loop that posts the same bodies by the same HTTP library without
signing, checking addresses or keeping a cursor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpcore
import psutil
from common import RESULTS, ROOT, Spent, machine, modelsmith_command, ratio, save, summary, table, timed
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from modelsmith.ledger.ledger import Ledger, ledger_of
from modelsmith.operations import webhooks
from modelsmith.operations.events import enveloped
from modelsmith.repository.tokens import Tokens
from modelsmith.repository.workspace import Workspace

sys.path.insert(0, str(ROOT / "tests"))
from happenings import happening, make_plain_clone

READERS = 10
STREAM = "modelsmith mcp --http"
EVENTS = "modelsmith://events"
BATCH = 1000


class Streamed(NamedTuple):
    """What came of one server."""

    seconds: float
    cpu: float
    mib_before: float
    mib_peak: float
    lost: int
    events: int
    """That each reader has read."""


AllRead = Callable[[psutil.Process], Coroutine[Any, Any, "Read"]]
"""Has all readers read at a server."""


def fill(ledger: Ledger, first: int, count: int) -> None:
    """Note events that differ."""
    for begin in range(first, first + count, BATCH):
        numbers = range(begin, min(begin + BATCH, first + count))
        ledger.append(*map(happening, numbers))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def follow_events(port: int, token: str, count: int) -> int:
    """Follow until the last event; how many are missing or out of order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    text = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(text.encode())
    last = wrong = 0
    while last < count:
        line = await reader.readline()
        if line.startswith(b"id: "):
            number = int(line[4:].split(b"-")[0])
            wrong += number != last + 1
            last = number
    writer.close()
    return wrong


class Read(NamedTuple):
    """What all readers of a server came to."""

    wrong: int
    mib_peak: float
    events: int
    """That each has read."""


@asynccontextmanager
async def watched(process: psutil.Process) -> AsyncIterator[list[float]]:
    """The most memory that a server has used, in a list of one."""
    peak = [0.0]

    async def watch() -> None:
        while True:
            peak[0] = max(peak[0], process.memory_info().rss / 2**20)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        watching.cancel()


async def read_all(port: int, token: str, count: int, process: psutil.Process) -> Read:
    """All readers, and one that reads nothing."""
    _, idle = await asyncio.open_connection("127.0.0.1", port, limit=1)
    text = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    idle.write(text.encode())
    async with watched(process) as peak:
        wrong = sum(await asyncio.gather(*(follow_events(port, token, count) for _ in range(READERS))))
    return Read(wrong, peak[0], count)


def served(command: list[str], port: int, folder: Path, token: str, all_read: AllRead) -> Streamed:
    """Start a server, let all read, end it."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    server = psutil.Process(process.pid)
    try:
        while True:
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        asyncio.run(follow_events(port, token, 1))
        before, cpu, begin = server.memory_info().rss / 2**20, sum(server.cpu_times()[:2]), time.perf_counter()
        result = asyncio.run(all_read(server))
        seconds, spent = time.perf_counter() - begin, sum(server.cpu_times()[:2]) - cpu
    finally:
        process.kill()
        process.wait()
    memory = (round(before, 1), round(result.mib_peak, 1))
    return Streamed(round(seconds, 2), round(spent, 2), *memory, result.wrong, result.events)


async def subscribe(port: int, token: str, cursor: str | None, last: int) -> int:
    """Be told and read on until the last event; how many are missing or out of order."""
    at, wrong = int(cursor.split("-")[0]) if cursor else 0, 0
    http = create_mcp_http_client(headers={"Authorization": f"Bearer {token}"})
    transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
    async with http, Client(transport) as client, client.listen(resource_subscriptions=[EVENTS]) as news:
        while at < last:
            resource = await client.read_resource(f"{EVENTS}/{cursor}" if cursor else EVENTS)
            page = json.loads(resource.contents[0].text)["result"]
            for event in page["events"]:
                number = int(event["cursor"].split("-")[0])
                wrong += number != at + 1
                at = number
            cursor = page["cursor"]
            if not page["more"] and at < last:
                await anext(news)
    return wrong


async def subscribe_all(port: int, token: str, cursor: str | None, ledger: Ledger, process: psutil.Process) -> Read:
    """All subscribers, while `BATCH` events more come."""
    first = int((ledger.end() or "0").split("-")[0])
    start = int(cursor.split("-")[0]) if cursor else 0
    async with watched(process) as peak:

        async def more() -> None:
            for number in range(first, first + BATCH, BATCH // 10):
                await asyncio.sleep(1)
                await asyncio.to_thread(fill, ledger, number, BATCH // 10)

        filling = asyncio.create_task(more())
        last = first + BATCH
        wrong = sum(await asyncio.gather(*(subscribe(port, token, cursor, last) for _ in range(READERS))))
        await filling
    return Read(wrong, peak[0], last - start)


class Receiver(threading.Thread):
    """Answers every POST with 200, at once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.port = free_port()
        self.up = threading.Event()

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.up.set()
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def post(url: str, bodies: list[str]) -> None:
    """The bare loop."""
    async with httpcore.AsyncConnectionPool() as pool:
        for body in bodies:
            answer = await pool.request("POST", url, content=body.encode())
            assert answer.status == 200


def deliveries(workspace: Workspace, first: int, count: int, repeats: int) -> dict[str, list[Spent]]:
    """Webhooks and the bare loop in turn, each with new events."""
    receiver = Receiver()
    receiver.start()
    receiver.up.wait()
    url = f"http://127.0.0.1:{receiver.port}/"
    webhooks.add(workspace, "bench", url, (), "cloudevents")
    runs: dict[str, list[Spent]] = {"webhooks deliver": [], "bare httpcore": []}
    ledger = ledger_of(workspace)
    for turn in range(repeats):
        since = ledger.end()
        fill(ledger, first + turn * count, count)
        bodies = enveloped(ledger.events(since), workspace)
        runs["webhooks deliver"].append(timed(lambda: webhooks.delivered(workspace, False)))
        assert webhooks.listed(workspace).subscribers[0].behind == 0
        runs["bare httpcore"].append(timed(lambda bodies=bodies: anyio.run(post, url, bodies)))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--subscribed", type=int, default=100_000, help="Events that subscribers read of these.")
    parser.add_argument("--webhooks", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    about = machine("mcp", "cloudevents", "standardwebhooks", "httpcore")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["MODELSMITH_HOME"] = str(home)
        clone = make_plain_clone(Path(folder) / "clone")
        workspace = Workspace.find(clone)
        ledger = ledger_of(workspace)
        fill(ledger, 0, arguments.events)
        token = Tokens(home).issue("reviewer", (), 1)[1]
        count, port, other, third = arguments.events, free_port(), free_port(), free_port()
        ours = [*modelsmith_command(), "mcp", "--http", "--port"]
        plain = [sys.executable, str(Path(__file__).with_name("events_bare.py")), str(ledger.path), str(other)]
        from_here = ledger.page(None, max(0, count - arguments.subscribed) or 1).events[-1].cursor
        cursor = from_here if arguments.subscribed < count else None
        streamed = {
            STREAM: served([*ours, str(port)], port, clone, token, lambda of: read_all(port, token, count, of)),
            "bare SSE": served(plain, other, clone, token, lambda of: read_all(other, token, count, of)),
            "subscribers by MCP": served(
                [*ours, str(third)],
                third,
                clone,
                token,
                lambda of: subscribe_all(third, token, cursor, ledger, of),
            ),
        }
        filled = arguments.events + BATCH
        subprocess.run(["git", "config", "modelsmith.webhook-allow", "127.0.0.0/8"], cwd=clone, check=True)
        webhook_runs = deliveries(workspace, filled, arguments.webhooks, arguments.repeats)
    report(about, arguments, streamed, webhook_runs)


def report(
    about: dict[str, Any],
    arguments: argparse.Namespace,
    streamed: dict[str, Streamed],
    webhook_runs: dict[str, list[Spent]],
) -> None:
    """Print and save."""
    ours = [figures for name, figures in streamed.items() if name != "bare SSE"]
    grown = {name: round(figures.mib_peak - figures.mib_before, 1) for name, figures in streamed.items()}
    result = {
        "machine": about,
        "events": arguments.events,
        "readers": READERS,
        "streamed": {name: figures._asdict() for name, figures in streamed.items()},
        "webhooks": {name: summary(runs) | {"messages": arguments.webhooks} for name, runs in webhook_runs.items()},
        "ratio": {"webhooks": ratio(webhook_runs["webhooks deliver"], webhook_runs["bare httpcore"])},
        "goal": {"lost": 0, "met": not any(figures.lost for figures in ours), "mib_grown": grown},
    }
    save(RESULTS / "events.json", result)
    rows: list[tuple[object, ...]] = [
        (
            name,
            figures.events,
            figures.seconds,
            figures.cpu,
            int(figures.events * READERS / figures.seconds),
            figures.mib_before,
            figures.mib_peak,
            figures.lost,
        )
        for name, figures in streamed.items()
    ]
    print(table(("ten readers", "events", "seconds", "cpu", "events/s", "MiB before", "MiB peak", "lost"), rows))
    print()
    figures = {name: summary(runs) for name, runs in webhook_runs.items()}
    each = [
        (name, figure["median"], int(arguments.webhooks / figure["median"]), figure["median_cpu"])
        for name, figure in figures.items()
    ]
    print(table(("webhooks", "seconds", "messages/s", "cpu"), each))


if __name__ == "__main__":
    main()
