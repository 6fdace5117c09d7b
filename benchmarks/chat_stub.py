"""An OpenAI-compatible server that answers every request with one and the same completion, in a process of its own.

Who asks for a stream gets as many tokens as ``max_tokens`` says, an event each; all streams get their next token in the
same step, as those of one batch of a real engine do, and none gets one before its last was taken.

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

STEP = 0.002
"""Seconds between two steps."""
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


def _event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub"}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_TOKENS = [_framed(_event(f" token {number}")) for number in range(10)]
"""One after another: LiteLLM ends a stream that says the same a hundred times."""
_END = _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Connection(asyncio.Protocol):
    """Waits for whole requests and answers each after the delay."""

    def __init__(self, delay: float, streams: Streams) -> None:
        self.delay, self.streams = delay, streams
        self.data = b""
        self.full = False
        """Whether the reader is behind."""

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

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
            body, self.data = self.data[end + 4 : end + 4 + length], self.data[end + 4 + length :]
            if b'"stream"' in body and (request := json.loads(body)).get("stream"):
                self.transport.write(_STREAM)
                self.streams.begin(self, request["max_tokens"])
            elif self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, RESPONSE)
            else:
                self.transport.write(RESPONSE)


class Streams:
    """All streams under way, and how many tokens each has still to come."""

    def __init__(self) -> None:
        self.left: dict[Connection, int] = {}

    def begin(self, connection: Connection, tokens: int) -> None:
        if not self.left:
            asyncio.get_running_loop().call_soon(self._step)
        self.left[connection] = tokens

    def _step(self) -> None:
        for stream, tokens_left in list(self.left.items()):
            if stream.transport.is_closing():
                del self.left[stream]
            elif not tokens_left:
                stream.transport.write(_END)
                del self.left[stream]
            elif not stream.full:
                stream.transport.write(_TOKENS[tokens_left % len(_TOKENS)])
                self.left[stream] = tokens_left - 1
        if self.left:
            asyncio.get_running_loop().call_later(STEP, self._step)


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
    streams = Streams()
    server = await loop.create_server(lambda: Connection(delay, streams), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
