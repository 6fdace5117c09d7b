"""An OpenAI-compatible server on this machine that answers as a test says: well, badly, late, or not at all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Reply:
    """What the server does with one request."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    after: float = 0.0
    """Seconds before the answer."""
    cut: int | None = None
    """Break the connection after so many bytes of the body."""
    pieces: tuple[bytes, ...] = ()
    """A stream, sent piece by piece in place of the body."""


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it."""

    number: int
    """From 0, in order of arrival."""
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


Script = Callable[[Seen], Reply]


def chat(text: str | None, finish: str | None = "stop", **changes: Any) -> Reply:
    """A well-formed answer, but for the changes; a field set to ``...`` is left out."""
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    } | changes
    return Reply(json.dumps({k: v for k, v in document.items() if v is not ...}).encode())


def echo(request: Seen) -> Reply:
    """The default: says what it was asked."""
    return chat(f"answer to {request.text}")


def refusal(status: int, code: str | None = None, message: str = "no", **headers: str) -> Reply:
    """An error object with a status."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def event(document: Mapping[str, Any] | str) -> bytes:
    """One server-sent event."""
    data = document if isinstance(document, str) else json.dumps(document)
    return f"data: {data}\n\n".encode()


def stream(
    *texts: str, finish: str | None = "stop", with_end: bool = True, usage: Mapping[str, int] | None = None
) -> Reply:
    """A streamed answer in these parts."""
    parts = [{"model": "stub", "choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    end = {"model": "stub", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    counted = usage or {"prompt_tokens": 7, "completion_tokens": len(texts)}
    last = {"model": "stub", "choices": [], "usage": counted}
    events = [*parts, *([end] if finish else []), *([last] if with_end else [])]
    pieces = tuple(map(event, events)) + ((event("[DONE]"),) if with_end else ())
    return Reply(pieces=pieces, content_type="text/event-stream")


class StubServer:
    """Runs in a thread; can be stopped and started again at the same port."""

    def __init__(self, script: Script = echo) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._at_once = 0
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._call(self._listen())

    def stop(self) -> None:
        """Break every connection and refuse new ones."""
        self._call(self._unlisten())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> StubServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _unlisten(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        request_seen = Seen(len(self.seen), dict(request.headers), json.loads(await request.read()))
        self.seen.append(request_seen)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.script(request_seen)
            if reply.after:
                await asyncio.sleep(reply.after)
            return await self._send(request, reply)
        finally:
            self._at_once -= 1

    async def _send(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        headers = {"Content-Type": reply.content_type, **reply.headers}
        if reply.cut is None and not reply.pieces:
            return web.Response(body=reply.body, status=reply.status, headers=headers)
        response = web.StreamResponse(status=reply.status, headers=headers)
        if reply.cut is not None:
            response.content_length = len(reply.body)
        await response.prepare(request)
        for piece in reply.pieces or (reply.body[: reply.cut],):
            await response.write(piece)
        if reply.cut is not None and request.transport is not None:
            request.transport.close()
        return response
