"""The port to whoever answers: a model at a server, or one in this process."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

_TOKENS = re.compile(rb'"(prompt|completion)_tokens"\s*:\s*(\d{1,9})')
_DONE = re.compile(rb"\ndata: ?\[DONE\]")
_FAILED = re.compile(
    rb'\n(?:event: ?error\b|data: ?\{\s*"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error"))'
    rb'|"finish_reason"\s*:\s*"error"'
)
"""An event that is an error, as vLLM and others send it; the text of an answer has no line ends and quotes like these.
Each of its forms has the word, which is found far sooner than the form."""
_BEGINNING = 64
"""Bytes from which such an event is known."""
COMMENTS: Final = 16_384
"""Bytes of comments at the beginning of a stream that a caller waits for what comes after them."""
_DATA: Final = b"\ndata:"
_TAIL = 4096
LARGEST_ANSWER = 16 << 20
"""Bytes of an answer that is not a stream."""
PAUSE = 0.2
"""Seconds before the same backend is asked once more."""
JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass
class Turn:
    """How long an answer waited for others, where one engine gives them one after another."""

    waits: bool = False
    """Whether it still does."""
    waited_ms: float = 0.0


class Price(NamedTuple):
    """Prices of one token, in the currency of the machine's settings."""

    asked: float = 0.0
    answered: float = 0.0


FREE: Final = Price()
"""Price of a specialist that the settings give none."""


@dataclass(frozen=True)
class Reply:
    """An answer that has begun."""

    status: int
    """200, or 400, 413 or 422 where the backend says that the request is to blame."""
    content_type: str
    """`JSON` or `EVENTS`."""
    pieces: AsyncIterator[bytes]
    """Raises `Down` where it breaks off."""
    turn: Turn = field(default_factory=Turn)
    """Known when the pieces have come."""
    price: Price = FREE


class Model(Protocol):
    """One model that can be asked."""

    def ask(self, body: Mapping[str, Any]) -> AbstractAsyncContextManager[Reply]:
        """Ask the model; it stops when the context is left before the end.

        Raises:
            Refused: the request cannot be answered by this kind of backend.
            Down: it gave no answer.
        """


def is_answer(answer: bytes | bytearray) -> bool:
    """Whether a body with status 200 answers: some servers send an error, or nothing, with that status."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    choices = document.get("choices") if isinstance(document, dict) and not document.get("error") else None
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(choice, dict) and choice.get("finish_reason") != "error" for choice in choices)
    )


def says_nothing(beginning: bytes) -> bool:
    """Whether a stream has only comments and empty lines so far, by which some providers keep a connection open."""
    if beginning.startswith(b"data:"):
        return False
    return all(line.startswith(b":") or not line.strip() for line in beginning.split(b"\n"))


class Usage:
    """Tokens of an answer, read from its end as it passes by."""

    def __init__(self) -> None:
        self._tail = b"\n"
        self._events = 0
        self.failed = False
        """Whether a stream named an error: `[DONE]` may follow all the same."""

    def saw(self, piece: bytes) -> None:
        """Look at the next piece of the answer, for its usage and errors."""
        seen_tail = self._tail[-_BEGINNING:] + piece
        self.failed = self.failed or (b"error" in seen_tail and _FAILED.search(seen_tail) is not None)
        self._events += (self._tail[1 - len(_DATA) :] + piece).count(_DATA)
        self._tail = (self._tail + piece)[-_TAIL:]

    def saw_whole(self, answer: bytes) -> None:
        """Take an answer that is no stream: some servers say more after the tokens than fits into the end of one."""
        self._tail = answer

    @property
    def done(self) -> bool:
        """Whether a stream said that nothing follows: one that just ends was cut off."""
        return _DONE.search(self._tail) is not None

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens asked and answered. Where a stream does not say, each of its events counts as a token."""
        counts = {name: int(count) for name, count in _TOKENS.findall(self._tail)}
        return counts.get(b"prompt", 0), counts.get(b"completion", self._events)

    def cost(self, price: Price) -> float:
        """Price of the answer."""
        tokens_in, answered = self.tokens
        return tokens_in * price.asked + answered * price.answered
