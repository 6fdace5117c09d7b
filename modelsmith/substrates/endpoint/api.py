"""The OpenAI-compatible chat API in bytes: what is sent, and how answers and event streams are read. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import Chat
from modelsmith.substrates.chat import template_keywords, turns
from modelsmith.substrates.endpoint.failures import Failure, malformed, truncated, withheld

STOPPED = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn"})
"""What servers call it when the model ended by itself: OpenAI's word first, then TGI's and Anthropic's."""
RAN_OUT = frozenset({"length", "max_tokens", "model_length"})
"""What servers call it when the limit of new tokens ended the answer."""
_THOUGHTS = frozenset({"thinking", "reasoning", "redacted_thinking"})
"""Typed parts of a message that are no part of the answer."""

_PLAIN = Chat()
LimitName = Literal["max_tokens", "max_completion_tokens"]
"""How a server calls the limit of new tokens: all know the first, but for OpenAI's newer models, which refuse it."""


@dataclass(frozen=True)
class Answer:
    """One chat completion."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    """0 when the server does not say."""
    completion_tokens: int
    """0 when the server does not say."""
    model: str | None
    """What the server calls the model that answered."""


def request_body(
    model: str,
    messages: Sequence[Message],
    system: str,
    sampling: Sampling,
    limit: LimitName,
    *,
    stream: bool,
    omit: Collection[str] = (),
    chat: Chat = _PLAIN,
) -> bytes:
    """The JSON of one request, without the settings in ``omit``. Lone surrogates and control characters are escaped."""
    body: dict[str, Any] = {
        "model": model,
        "messages": turns(messages, system, chat),
        limit: sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    for name in omit:
        del body[name]
    if keywords := template_keywords(chat):
        body["chat_template_kwargs"] = keywords
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode("ascii")


def read_answer(body: bytes) -> Answer | Failure:
    """The completion in an answer that is not a stream."""
    document = _json(body)
    if document is None:
        return malformed("it is not a JSON object")
    choice = _choice(document)
    if choice is None:
        return malformed("it has no choices")
    message = choice.get("message")
    if not isinstance(message, dict):
        return malformed("its choice has no message")
    finish = choice.get("finish_reason")
    text = _text(message.get("content"))
    if text is None and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    if text is None and _word(finish) in RAN_OUT:
        text = ""
    return _answer(text, finish, document.get("usage"), document.get("model"))


@dataclass
class StreamReader:
    """Puts together an answer that comes as server-sent events, in pieces cut anywhere."""

    _rest: list[bytes] = field(default_factory=list)
    _lines: list[bytes] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _finish: object = None
    _usage: object = None
    _model: object = None
    _failure: Failure | None = None

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes; True when they brought text."""
        known = len(self._parts)
        for data in self._events(piece):
            if self._failure is None and data != b"[DONE]":
                self._take(data)
        return len(self._parts) > known

    def end(self) -> Answer | Failure:
        """The whole answer, once the stream has ended."""
        if self._failure is not None:
            return self._failure
        if self._finish is None:
            return truncated()
        return _answer("".join(self._parts), self._finish, self._usage, self._model)

    def _events(self, piece: bytes) -> Iterator[bytes]:
        """Data of the events that are complete now; a line ends with LF or CRLF, other fields are skipped.

        An event without data keeps a connection alive.
        """
        self._rest.append(piece)
        if b"\n" not in piece:
            return
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest = [rest]
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._lines.append(line[5:].removeprefix(b" "))
            elif not line and self._lines:
                data = b"\n".join(self._lines)
                self._lines.clear()
                if data:
                    yield data

    def _take(self, data: bytes) -> None:
        document = _json(data)
        if document is None:
            self._failure = malformed("an event of its stream is not a JSON object")
        elif "error" in document:
            self._failure = malformed("its stream reports an error")
        else:
            self._usage = document.get("usage") or self._usage
            self._model = document.get("model") or self._model
            choice = _choice(document) or {}
            delta = choice.get("delta")
            if isinstance(delta, dict):
                words = _text(delta.get("content")) or delta.get("refusal")
                if isinstance(words, str) and words:
                    self._parts.append(words)
            self._finish = choice.get("finish_reason") or self._finish


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _choice(document: dict[str, Any]) -> dict[str, Any] | None:
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _text(content: object) -> object:
    """A message's text; where it comes as typed parts, the texts among them without the thoughts.

    Anything else (an image, a tool's call) is handed back as it is, and is no text.
    """
    if not isinstance(content, list):
        return content
    parts = [part for part in content if not (isinstance(part, dict) and part.get("type") in _THOUGHTS)]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    words = [text for text in texts if isinstance(text, str)]
    return "".join(words) if len(words) == len(parts) else content


def _answer(text: object, finish: object, usage: object, model: object) -> Answer | Failure:
    if _word(finish) == "content_filter":
        return withheld("content_filter")
    if not isinstance(text, str):
        return malformed("its message has no text")
    word = _word(finish)
    if word not in STOPPED | RAN_OUT:
        return malformed("it does not say that the model stopped or ran out of tokens")
    return Answer(
        text=text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
        finish="stop" if word in STOPPED else "length",
        prompt_tokens=_tokens(usage, "prompt_tokens"),
        completion_tokens=_tokens(usage, "completion_tokens"),
        model=model if isinstance(model, str) else None,
    )


def _word(finish: object) -> str:
    return finish.lower() if isinstance(finish, str) else ""


def _tokens(usage: object, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**53 else 0
