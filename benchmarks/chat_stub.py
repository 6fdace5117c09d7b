"""An OpenAI-compatible server that answers every request with one and the same completion, in a process of its own.

``python benchmarks/chat_stub.py SECONDS`` prints its port and serves until standard input closes. It speaks just enough
HTTP to be fast: the smaller its share of the processor, the more of a benchmark is the client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TEXT = '{"cause": "timeout", "action": "cut_latency"}'
BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 150, "completion_tokens": 16, "total_tokens": 166},
    }
).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Connection(asyncio.Protocol):
    """Waits for whole requests and answers each after the delay."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]) if b"content-length:" in head else 0
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length :]
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, RESPONSE)
            else:
                self.transport.write(RESPONSE)


@contextlib.contextmanager
def stub(delay: float) -> Iterator[str]:
    """Run the server in a process; yields the base URL of its API."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.stdin.close()
        process.wait()


async def serve(delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
