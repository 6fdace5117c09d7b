"""A caller's bytes to a chat request. Pure; nothing that two readers would read differently is let through."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from modelsmith.door.refusal import Refused
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.source import Chat

LONGEST_MODEL = 256
DEEPEST = 64
"""Levels of a body at most; schemas of tools have some ten."""
_DIGITS = 19
_SYSTEM_ROLES = ("system", "developer")


class Governed(NamedTuple):
    """What the model was evaluated with: a request that leaves it out gets it."""

    system: str
    sampling: Sampling
    chat: Chat


def read_request(raw: bytes) -> dict[str, Any]:
    """The JSON body of a chat request, with a ``model`` and ``messages``.

    Raises:
        Refused: 400 ``bad-json`` for what is no JSON object, is nested too deep, names a field twice, or holds a number
            that JSON does not know; ``bad-request`` for a body without what every request has.
    """
    try:
        body = json.loads(
            raw, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite, parse_int=_whole
        )
        if raw.count(b"[") + raw.count(b"{") > DEEPEST:
            _refuse_deep(body)
    except RecursionError:
        raise Refused(400, "bad-json", "The body is nested too deep.") from None
    except ValueError as error:
        raise Refused(400, "bad-json", f"The body is not JSON that can be read in one way: {_words(error)}.") from None
    if not isinstance(body, dict):
        raise Refused(400, "bad-json", "The body is no JSON object.")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not 0 < len(model) <= LONGEST_MODEL:
        raise Refused(400, "bad-request", "`model` is missing, or no text of at most 256 characters.", param="model")
    if not (isinstance(messages, list) and messages and all(isinstance(one, dict) for one in messages)):
        raise Refused(400, "bad-request", "`messages` is no list of messages.", param="messages")
    if not isinstance(body.get("stream", False), (bool, type(None))):
        raise Refused(400, "bad-request", "`stream` is true or false.", param="stream")
    return body


def as_governed(body: Mapping[str, Any], governed: Governed) -> dict[str, Any]:
    """The request with what it leaves out as the model was evaluated: system prompt, sampling, limit of new tokens."""
    made = dict(body)
    sampling = governed.sampling
    if made.get("max_tokens") is None and made.get("max_completion_tokens") is None:
        made["max_tokens"] = sampling.max_new_tokens
    for name, value in (("temperature", sampling.temperature), ("top_p", sampling.top_p)):
        if made.get(name) is None:
            made[name] = value
    made["messages"] = _with_system(made["messages"], governed)
    return made


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as a backend gets it: written anew, so it reads what the rules have read."""
    return json.dumps(body, allow_nan=False).encode("ascii")


def _with_system(messages: Sequence[Mapping[str, Any]], governed: Governed) -> list[Mapping[str, Any]]:
    if any(one.get("role") in _SYSTEM_ROLES for one in messages):
        return [*messages]
    if governed.chat.system == "role":
        return [{"role": "system", "content": governed.system}, *messages]
    first = messages[0]
    if first.get("role") == "user" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{governed.system}\n\n{first['content']}"}, *messages[1:]]
    return [{"role": "user", "content": governed.system}, *messages]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is named twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _whole(word: str) -> int:
    if len(word) > _DIGITS:
        raise ValueError("a number is too large")
    return int(word)


def _refuse_deep(document: Any) -> None:
    """Refuse what is nested deeper than `DEEPEST`: another reader may give up on it."""
    level = [document]
    for _ in range(DEEPEST):
        level = [
            below
            for one in level
            if isinstance(one, (dict, list))
            for below in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise RecursionError


def _finite(word: str) -> float:
    number = float(word)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def _words(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error).split("\n")[0][:120]
