"""Events to many readers by Server-Sent Events, and by webhooks, beside bare peers.

Stream: ten readers and one that reads nothing follow the whole ledger at `modelsmith mcp --http`, and at a server that
sends the same rows by the same SSE library (`events_bare.py`). Each reader checks that no event is missing and that
all come in order. Webhooks: `webhooks deliver` to one receiver of this machine, beside a loop that posts the same
bodies by the same HTTP library without signing, checking addresses or keeping a cursor.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpcore
import psutil
from common import RESULTS, ROOT, Spent, machine, modelsmith_command, ratio, save, summary, table, timed

from modelsmith.ledger.ledger import Ledger, ledger_of
from modelsmith.operations import webhooks
from modelsmith.operations.events import enveloped
from modelsmith.repository.tokens import Tokens
from modelsmith.repository.workspace import Workspace

sys.path.insert(0, str(ROOT / "tests"))
from happenings import happening, make_plain_clone

READERS = 10
BATCH = 1000


class Streamed(NamedTuple):
    """What came of one server."""

    seconds: float
    cpu: float
    mib_before: float
    mib_peak: float
    lost: int


def fill(ledger: Ledger, first: int, count: int) -> None:
    """Note events that differ."""
    for begin in range(first, first + count, BATCH):
        numbers = range(begin, min(begin + BATCH, first + count))
        ledger.append(*map(happening, numbers))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def read(port: int, token: str, count: int) -> int:
    """Follow until the last event; how many are missing or out of order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    asked = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(asked.encode())
    last = wrong = 0
    while last < count:
        line = await reader.readline()
        if line.startswith(b"id: "):
            number = int(line[4:].split(b"-")[0])
            wrong += number != last + 1
            last = number
    writer.close()
    return wrong


async def read_all(port: int, token: str, count: int, process: psutil.Process) -> tuple[int, float]:
    """All readers, and one that reads nothing; errors, and the most memory that the server used (MiB)."""
    _, idle = await asyncio.open_connection("127.0.0.1", port, limit=1)
    asked = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    idle.write(asked.encode())
    peak = 0.0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss / 2**20)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    wrong = sum(await asyncio.gather(*(read(port, token, count) for _ in range(READERS))))
    watching.cancel()
    return wrong, peak


def stream(command: list[str], port: int, folder: Path, token: str, count: int) -> Streamed:
    """Start a server, let all read, end it."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    try:
        while True:
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        asyncio.run(read(port, token, 1))
        before, cpu, begin = watched.memory_info().rss / 2**20, sum(watched.cpu_times()[:2]), time.perf_counter()
        wrong, peak = asyncio.run(read_all(port, token, count, watched))
        seconds, spent = time.perf_counter() - begin, sum(watched.cpu_times()[:2]) - cpu
    finally:
        process.kill()
        process.wait()
    return Streamed(round(seconds, 2), round(spent, 2), round(before, 1), round(peak, 1), wrong)


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
    found: dict[str, list[Spent]] = {"webhooks deliver": [], "bare httpcore": []}
    ledger = ledger_of(workspace)
    for turn in range(repeats):
        since = ledger.end()
        fill(ledger, first + turn * count, count)
        bodies = enveloped(ledger.events(since), workspace)
        found["webhooks deliver"].append(timed(lambda: webhooks.delivered(workspace, False)))
        assert webhooks.listed(workspace).subscribers[0].behind == 0
        found["bare httpcore"].append(timed(lambda bodies=bodies: anyio.run(post, url, bodies)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--webhooks", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    about = machine("mcp", "cloudevents", "standardwebhooks", "httpcore")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["MODELSMITH_HOME"] = str(home)
        clone = make_plain_clone(Path(folder) / "clone")
        workspace = Workspace.find(clone)
        ledger = ledger_of(workspace)
        fill(ledger, 0, asked.events)
        token = Tokens(home).issue("reviewer", (), 1)[1]
        port = free_port()
        ours = [*modelsmith_command(), "mcp", "--http", "--port", str(port)]
        streamed = {"modelsmith mcp --http": stream(ours, port, clone, token, asked.events)}
        port = free_port()
        plain = [sys.executable, str(Path(__file__).with_name("events_bare.py")), str(ledger.path), str(port)]
        streamed["bare SSE"] = stream(plain, port, clone, token, asked.events)
        subprocess.run(["git", "config", "modelsmith.webhook-allow", "127.0.0.0/8"], cwd=clone, check=True)
        sent = deliveries(workspace, asked.events, asked.webhooks, asked.repeats)
    report(about, asked, streamed, sent)


def report(
    about: dict[str, Any], asked: argparse.Namespace, streamed: dict[str, Streamed], sent: dict[str, list[Spent]]
) -> None:
    """Print and save."""
    ours = streamed["modelsmith mcp --http"]
    result = {
        "machine": about,
        "events": asked.events,
        "readers": READERS,
        "streamed": {name: one._asdict() for name, one in streamed.items()},
        "webhooks": {name: summary(runs) | {"messages": asked.webhooks} for name, runs in sent.items()},
        "ratio": {"webhooks": ratio(sent["webhooks deliver"], sent["bare httpcore"])},
        "goal": {"lost": 0, "met": ours.lost == 0, "mib_grown": round(ours.mib_peak - ours.mib_before, 1)},
    }
    save(RESULTS / "events.json", result)
    rows: list[tuple[object, ...]] = [
        (name, one.seconds, one.cpu, int(asked.events * READERS / one.seconds), one.mib_before, one.mib_peak, one.lost)
        for name, one in streamed.items()
    ]
    print(table(("stream", "seconds", "cpu", "events/s", "MiB before", "MiB peak", "lost"), rows))
    print()
    figures = {name: summary(runs) for name, runs in sent.items()}
    each = [
        (name, one["median"], int(asked.webhooks / one["median"]), one["median_cpu"]) for name, one in figures.items()
    ]
    print(table(("webhooks", "seconds", "messages/s", "cpu"), each))


if __name__ == "__main__":
    main()
