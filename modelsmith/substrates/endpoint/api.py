"""The OpenAI-compatible chat API in bytes: what is sent, and how answers and event streams are read. Pure."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import Chat
from modelsmith.substrates.chat import template_keywords, turns
from modelsmith.substrates.endpoint.failures import Failure, malformed, truncated, two_models, withheld

STOPPED = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn"})
"""What servers call it when the model ended by itself: OpenAI's word first, then TGI's and Anthropic's."""
RAN_OUT = frozenset({"length", "max_tokens", "model_length"})
"""What servers call it when the limit of new tokens ended the answer."""
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message beside its content in which servers hand over thoughts."""
_THOUGHTS = frozenset({"thinking", "reasoning", "redacted_thinking"})
"""Typed parts of a message that are not part of the answer."""

MOST_TOKENS = 10**8
"""Tokens of one request that a server can have counted; what says more is a broken counter, and counts as unsaid."""
_PLAIN = Chat()
LimitName = Literal["max_tokens", "max_completion_tokens"]
"""How a server calls the limit of new tokens: all know the first, but for OpenAI's newer models, which refuse it."""


@dataclass(frozen=True)
class Answer:
    """One chat completion, as the server gave it."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    """0 when the server does not say."""
    completion_tokens: int
    """0 when the server does not say."""
    model: str | None
    """The server's name of the model that answered."""
    separated: bool = False
    """The server has told the model's thoughts apart; the text is the answer alone."""


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
    if _is_error(document):
        return malformed("it reports an error")
    choice = _choice(document)
    if choice is None:
        return malformed("it has no choices")
    message = choice.get("message")
    if not isinstance(message, dict):
        return malformed("its choice has no message")
    finish = choice.get("finish_reason")
    text = _text(message.get("content"))
    if text in (None, "") and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    thought = _thought(message)
    if text is None and _gave_none(finish, thought):
        text = ""
    return _answer(text, finish, document.get("usage"), document.get("model"), thought)


@dataclass
class StreamReader:
    """Puts together an answer that comes as server-sent events, in pieces cut anywhere."""

    _rest: list[bytes] = field(default_factory=list)
    _lines: list[bytes] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _begun: bool = False
    _spoken: bool = False
    _thought: bool = False
    _finish: object = None
    _usage: object = None
    _model: object = None
    _failure: Failure | None = None
    _done: bool = False
    """Whether the server said that nothing follows."""

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes; True when they brought text."""
        count_before = len(self._parts)
        for data in self._events(piece):
            self._done = self._done or data == b"[DONE]"
            if self._failure is None and not self._done:
                self._take(data)
        return len(self._parts) > count_before

    def end(self) -> Answer | Failure:
        """The whole answer, once the stream has ended."""
        if self._failure is not None:
            return self._failure
        if self._finish is None:
            return truncated()
        answer_text = self._spoken or _gave_none(self._finish, self._thought)
        text = "".join(self._parts) if answer_text else None
        return _answer(text, self._finish, self._usage, self._model, self._thought)

    def _events(self, piece: bytes) -> Iterator[bytes]:
        """Data of the events that are complete now; a line ends with LF or CRLF, other fields are skipped.

        An event without data keeps a connection alive.
        """
        self._rest.append(piece)
        if b"\n" not in piece:
            return
        come = b"".join(self._rest)
        *lines, rest = (come if self._begun else come.removeprefix(codecs.BOM_UTF8)).split(b"\n")
        self._begun = True
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
        elif _is_error(document):
            self._failure = malformed("its stream reports an error")
        elif self._model and document.get("model") not in (None, "", self._model):
            self._failure = two_models()
        else:
            self._usage = document.get("usage") or self._usage
            self._model = document.get("model") or self._model
            choice = _choice(document) or {}
            if isinstance(delta := choice.get("delta"), dict):
                self._hear(delta)
            self._finish = choice.get("finish_reason") or self._finish

    def _hear(self, delta: dict[str, Any]) -> None:
        self._thought = self._thought or _thought(delta)
        words = _text(delta.get("content"))
        if words is None:
            words = delta.get("refusal")
        if isinstance(words, str):
            self._spoken = True
            self._parts += [words] if words else []
        elif words is not None:
            self._failure = malformed("a part of its message is no text")


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _is_error(document: dict[str, Any]) -> bool:
    """Whether a server says, with whatever status, that something went wrong: each has a way of its own."""
    return document.get("error") is not None or "error" in (document.get("object"), document.get("type"))


def _choice(document: dict[str, Any]) -> dict[str, Any] | None:
    """The first of the answers; a server that gives more than were asked for may send them mixed."""
    choices = document.get("choices")
    listed = choices if isinstance(choices, list) else []
    return next((choice for choice in listed if isinstance(choice, dict) and choice.get("index") in (None, 0)), None)


def _thought(message: dict[str, Any]) -> bool:
    """Whether the server tells the model's thoughts apart from its answer."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return any(isinstance(message.get(name), str) and message[name] for name in _THOUGHT_FIELDS) or any(
        isinstance(part, dict) and part.get("type") in _THOUGHTS for part in parts
    )


def _text(content: object) -> object:
    """A message's text; where it comes as typed parts, the texts among them without the thoughts.

    Anything else (an image, a tool's call) is handed back as it is, and is not text.
    """
    if not isinstance(content, list):
        return content
    parts = [part for part in content if not (isinstance(part, dict) and part.get("type") in _THOUGHTS)]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    words = [text for text in texts if isinstance(text, str)]
    return "".join(words) if len(words) == len(parts) else content


def _gave_none(finish: object, thought: bool) -> bool:
    """Whether a message without a text is a model's that gave no answer, and not a server's that lost one.

    A model that only thinks has no answer: OpenAI says so by an empty text, vLLM by ``null`` beside the thoughts, also
    where the model just stopped. Both are the model's doing, so both are an empty answer. ``null`` beside nothing is an
    error.
    """
    return thought or _word(finish) in RAN_OUT


def _answer(text: object, finish: object, usage: object, model: object, thought: bool) -> Answer | Failure:
    if _word(finish) == "content_filter":
        return withheld("content_filter")
    if not isinstance(text, str):
        return malformed("its message has no text")
    word = _word(finish)
    if word not in STOPPED | RAN_OUT:
        return malformed("it does not say that the model stopped or ran out of tokens")
    return Answer(
        text=text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
        finish="stop" if word in STOPPED else "length",
        prompt_tokens=_tokens(usage, "prompt_tokens"),
        completion_tokens=_tokens(usage, "completion_tokens"),
        model=model if isinstance(model, str) and model else None,
        separated=thought,
    )


def _word(finish: object) -> str:
    return finish.lower() if isinstance(finish, str) else ""


def _tokens(usage: object, name: str) -> int:
    """How many tokens a server counts, as an integer or a whole float; what no request can hold is not a count."""
    count = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(count, bool) or not isinstance(count, (int, float)) or not 0 <= count <= MOST_TOKENS:
        return 0
    return int(count) if count == int(count) else 0
