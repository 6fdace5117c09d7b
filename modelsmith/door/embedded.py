"""A model in this process, for trying things out: one answer at a time, computed in a thread of its own.

Callers are answered in the order in which they came; copies of requests wait until no caller does.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from pydantic import ValidationError

from modelsmith.door.refusal import Down, Refused
from modelsmith.door.upstream import EVENTS, JSON, Reply, Turn
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.substrates.port import Completion, Prompt

_KNOWN = frozenset({
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stream"),
    *("stream_options", "user", "metadata", "n", "store"),
})  # fmt: skip
"""Fields that it understands, or that change no answer."""
_END = b"data: [DONE]\n\n"


class Speaker(Protocol):
    """The calls that are made of an engine here; `substrates.local` has it."""

    def speak(self, prompt: Prompt, system: str, sampling: Sampling, hear: Any, most: int) -> Completion:
        """Complete one prompt of so many tokens at most, and let its text be heard as it comes."""


class _ListenerGoneError(Exception):
    """The caller is gone; nobody reads the rest of the answer."""


class Engine:
    """Computes for all models of the process, one answer at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "embedded")
        self._busy = False
        self._callers, self._copies = deque[asyncio.Future[None]](), deque[asyncio.Future[None]]()

    async def compute(self, work: Callable[[], Completion], is_copy: bool, turn: Turn) -> Completion:
        """Do it when it is its turn, also where nobody waits for it any more: it finds that out by itself."""
        if self._busy:
            arrived, waiting = time.perf_counter(), asyncio.get_running_loop().create_future()
            (self._copies if is_copy else self._callers).append(waiting)
            turn.waits = True
            await waiting
            turn.waits, turn.waited_ms = False, (time.perf_counter() - arrived) * 1000
        self._busy = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._next()

    def close(self) -> None:
        """Compute nothing more; what is under way ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        """Pass the turn to the next waiter. It stays taken meanwhile, so that no newcomer gets it first."""
        while waiting := self._callers or self._copies:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False


class EmbeddedModel:
    """One loaded model. What is asked of one in the shadow are copies."""

    def __init__(self, name: str, speaker: Speaker, engine: Engine, prompt_tokens: int, in_shadow: bool) -> None:
        self._name = name
        self._speaker = speaker
        self._most = prompt_tokens
        self._engine = engine
        self._in_shadow = in_shadow

    @asynccontextmanager
    async def ask(self, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """See `Model`."""
        system, prompt, sampling = _conversation(body)
        loop, output, cancelled = asyncio.get_running_loop(), asyncio.Queue[str | None](), threading.Event()

        def hear(text: str) -> None:
            if cancelled.is_set():
                raise _ListenerGoneError
            loop.call_soon_threadsafe(output.put_nowait, text)

        def speak() -> Completion:
            if cancelled.is_set():
                raise _ListenerGoneError
            return self._speaker.speak(prompt, system, sampling, hear, self._most)

        turn = Turn()
        work = asyncio.ensure_future(self._engine.compute(speak, self._in_shadow, turn))
        work.add_done_callback(partial(_close_stream, output))
        head = _AnswerHead(self._name)
        usage = bool(_mapping(body.get("stream_options")).get("include_usage"))
        pieces = _events(work, output, head, usage) if body.get("stream") else _complete_answer(work, head)
        try:
            yield Reply(200, EVENTS if body.get("stream") else JSON, pieces, turn)
        finally:
            cancelled.set()


def _close_stream(pieces: asyncio.Queue[str | None], work: asyncio.Future[Completion]) -> None:
    """Mark the end of the answer. A failure that nobody waits for is not reported."""
    if not work.cancelled():
        work.exception()
    pieces.put_nowait(None)


class _AnswerHead:
    """Fields that every part of one answer has."""

    def __init__(self, model: str) -> None:
        self.head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def part(self, delta: Mapping[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**self.head, "object": "chat.completion.chunk", "choices": [choice]})

    def usage(self, completion: Completion) -> dict[str, int]:
        tokens_in, answered = completion.prompt_tokens, completion.completion_tokens
        return {"prompt_tokens": tokens_in, "completion_tokens": answered, "total_tokens": tokens_in + answered}


async def _complete_answer(work: asyncio.Future[Completion], head: _AnswerHead) -> AsyncIterator[bytes]:
    completion = await _completion_of(work)
    message = {"role": "assistant", "content": completion.text}
    choices = [{"index": 0, "message": message, "finish_reason": completion.finish}]
    answer = {**head.head, "object": "chat.completion", "choices": choices, "usage": head.usage(completion)}
    yield json.dumps(answer).encode()


async def _events(
    work: asyncio.Future[Completion], pieces: asyncio.Queue[str | None], head: _AnswerHead, usage: bool
) -> AsyncIterator[bytes]:
    first = await pieces.get()
    if first is None:
        await _completion_of(work)
    yield head.part({"role": "assistant", "content": ""}, None)
    while first is not None:
        yield head.part({"content": first}, None)
        first = await pieces.get()
    completion = await _completion_of(work)
    yield head.part({}, completion.finish)
    if usage:
        yield _event({**head.head, "object": "chat.completion.chunk", "choices": [], "usage": head.usage(completion)})
    yield _END


async def _completion_of(work: asyncio.Future[Completion]) -> Completion:
    try:
        completion = await work
    except InvalidInput as error:
        raise Refused(400, error.code, error.message, param="messages") from None
    except (ModelsmithError, RuntimeError, MemoryError):
        raise Down(503, "engine") from None
    if completion.error is not None:
        raise Refused(400, completion.error.code, completion.error.message, param="messages")
    return completion


def _conversation(body: Mapping[str, Any]) -> tuple[str, Prompt, Sampling]:
    """System prompt, conversation and sampling of a request.

    Raises:
        Refused: 400 ``not-supported`` for what this engine does not do, ``bad-request`` for what nobody could.
    """
    for name in sorted(body.keys() - _KNOWN):
        if body[name] is not None:
            raise Refused(400, "not-supported", f"The embedded engine does not know `{name[:40]}`.", param=name[:40])
    if body.get("n") not in (None, 1):
        raise Refused(400, "not-supported", "The embedded engine gives one answer to a request.", param="n")
    system, messages = "", []
    for number, (role, text) in enumerate(_turns(body["messages"])):
        if role in ("system", "developer") and number == 0:
            system = text
        elif role in ("user", "assistant") and text:
            messages.append(Message.model_construct(role=role, content=text))
        else:
            raise Refused(
                400,
                "bad-request",
                "The embedded engine takes a system prompt, then texts of user and assistant.",
                param="messages",
            )
    if not messages:
        raise Refused(400, "bad-request", "There is no message of a user.", param="messages")
    most = body.get("max_completion_tokens")
    settings = {
        "max_new_tokens": body.get("max_tokens") if most is None else most,
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "seed": body.get("seed"),
    }
    try:
        sampling = Sampling.model_validate({name: value for name, value in settings.items() if value is not None})
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        param = "max_tokens" if field == "max_new_tokens" else field
        raise Refused(400, "bad-request", f"`{param}`: {error.errors()[0]['msg']}", param=param) from None
    return system, Prompt("door", tuple(messages)), sampling


def _turns(messages: Sequence[Any]) -> Iterator[tuple[object, str]]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            parts = [_mapping(part) for part in content]
            texts = [str(part["text"]) for part in parts if part.get("type") == "text" and "text" in part]
            content = "".join(texts) if len(texts) == len(parts) else None
        yield message.get("role"), content if isinstance(content, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"
