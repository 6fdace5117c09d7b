"""The two streams of a client on standard input and output, so that whoever speaks by hand sees an answer.

A client may close its side as soon as it has asked, as ``echo ... | modelsmith mcp`` does: what it asked is answered
before the server goes. What is not JSON, and a request before the two have shaken hands, are answered with what to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

PATIENCE: Final = 60.0
"""Seconds for which an answer is waited for that nobody may be there to read; long work is a job, and goes on."""
ANSWERED_SOON: Final = frozenset(
    {"initialize", "ping", "server/discover", "tools/list", "tools/call", "resources/list", "resources/read"}
    | {"resources/templates/list", "prompts/list", "prompts/get", "tasks/get"}
)
"""Requests that are waited for; others go on until somebody ends them."""
NO_JSON: Final = (
    "This line is no JSON-RPC message. An agent's client speaks here: see docs/mcp.md. By hand, say `initialize`, then "
    "`notifications/initialized`, then a request, each as one line of JSON."
)
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_ID: Final = re.compile(r'"(?:[^"\\]|\\.){0,256}"|-?[0-9]{1,18}')
HANDSHAKE_FIRST: Final = "The two have not shaken hands: say `initialize`, then `notifications/initialized`, then this."


def request_id(line: str) -> str | int | None:
    """Of a line that cannot be read as a message, the id that its sender waits for: not JSON, too deep, other fields.

    Only an object that has a method, too, is a request.
    """
    depth, key, before = 0, "", ""
    fields: dict[str, str] = {}
    for match in _PIECE.finditer(line):
        piece = match[0]
        if depth == 1 and before == ":":
            fields.setdefault(key, piece)
        elif depth == 1 and piece == ":":
            key = before
        depth += (piece in "{[") - (piece in "}]")
        before = piece
    field = fields.get('"id"', "")
    if not line.lstrip("\ufeff \t").startswith("{") or '"method"' not in fields or not _ID.fullmatch(field):
        return None
    try:
        identifier: str | int = json.loads(field)
    except ValueError:
        return None
    return identifier


def _request_of(failure: Exception) -> str | int | None:
    """The id in what the library could not read."""
    if not isinstance(failure, ValidationError):
        return None
    for error in failure.errors(include_url=False, include_context=False):
        document = error["input"]
        if isinstance(document, str) and error["type"] == "json_invalid":
            return request_id(document)
        asked_id = document.get("id") if isinstance(document, dict) and "method" in document else None
        if isinstance(asked_id, (str, int)) and not isinstance(asked_id, bool):
            return asked_id
    return None


class LastWords:
    """Requests of a client that have no answer yet."""

    def __init__(self) -> None:
        self._open: set[Any] = set()
        self._changed = anyio.Event()
        self.greeted = False

    def heard(self, message: Any) -> None:
        """Note a message of the client."""
        if isinstance(message, types.JSONRPCRequest):
            self.greeted |= message.method == "initialize"
            if message.method in ANSWERED_SOON:
                self._open.add(message.id)
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            self._done((message.params or {}).get("requestId"))

    def sent(self, message: Any) -> None:
        """Note that a message went to the client."""
        if isinstance(message, (types.JSONRPCResponse, types.JSONRPCError)):
            self._done(message.id)

    async def wait(self) -> None:
        """Until all is answered, or nobody would wait any more."""
        with anyio.move_on_after(PATIENCE):
            while self._open:
                await self._changed.wait()

    def _done(self, id: Any) -> None:
        self._open.discard(id)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class _Stream:
    """One of the two, as the library made it."""

    def __init__(self, inner: Any, words: LastWords) -> None:
        self._inner, self._words = inner, words

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Reading(_Stream):
    """Messages of the client; their end comes when what it asked is answered."""

    def __init__(self, inner: Any, words: LastWords, answer: Callable[[SessionMessage], Any]) -> None:
        super().__init__(inner, words)
        self._answer = answer

    @property
    def last_context(self) -> Any:
        """The context of the sender of the message read last."""
        return self._inner.last_context

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> Any:
        """Receive the next message.

        Raises:
            anyio.EndOfStream: there is none.
        """
        while True:
            try:
                message = await self._inner.receive()
            except anyio.EndOfStream:
                await self._words.wait()
                raise
            if not isinstance(message, Exception):
                self._words.heard(message.message)
                return message
            request_id_ = _request_of(message)
            code = types.PARSE_ERROR if request_id_ is None else types.INVALID_REQUEST
            error = types.ErrorData(code=code, message=NO_JSON)
            await self._answer(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request_id_, error=error)))


class Writing(_Stream):
    """The stream of messages to the client; notes each one that goes out."""

    async def send(self, item: SessionMessage) -> None:
        """Send a message; a bare refusal of one who never shook hands says what to do."""
        message = item.message
        if isinstance(message, types.JSONRPCError) and not self._words.greeted:
            error = message.error
            if error.code == types.INVALID_PARAMS and not error.data:
                error = types.ErrorData(code=error.code, message=HANDSHAKE_FIRST)
                item = SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=message.id, error=error))
        await self._inner.send(item)
        self._words.sent(message)
