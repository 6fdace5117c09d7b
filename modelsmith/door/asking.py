"""A caller's bytes to a chat request. Pure; nothing that two readers would read differently is let through."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from modelsmith.door.refusal import Refused
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.one_reading import read_json
from modelsmith.schema.source import Chat

LONGEST_MODEL = 256
_SYSTEM_ROLES = ("system", "developer")
_ENCODER = json.JSONEncoder(allow_nan=False)


class Governed(NamedTuple):
    """Settings that the model was evaluated with: a request that leaves one out gets it."""

    system: str
    sampling: Sampling
    chat: Chat


def read_request(raw: bytes) -> dict[str, Any]:
    """The JSON body of a chat request, with a ``model`` and ``messages``.

    Raises:
        Refused: 400 ``bad-json`` for what is not a JSON object, is nested too deep, or two readers could read
            differently (`read_json`); ``bad-request`` for a body without what every request has.
    """
    try:
        body = read_json(raw)
    except RecursionError:
        raise Refused(400, "bad-json", "The body is nested too deep.") from None
    except ValueError as error:
        raise Refused(400, "bad-json", f"The body is not JSON that can be read in one way: {_words(error)}.") from None
    if not isinstance(body, dict):
        raise Refused(400, "bad-json", "The body is no JSON object.")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not 0 < len(model) <= LONGEST_MODEL:
        raise Refused(400, "bad-request", "`model` is missing, or no text of at most 256 characters.", param="model")
    if not (isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)):
        raise Refused(400, "bad-request", "`messages` is no list of messages.", param="messages")
    if not isinstance(body.get("stream", False), (bool, type(None))):
        raise Refused(400, "bad-request", "`stream` is true or false.", param="stream")
    return body


def as_governed(body: Mapping[str, Any], governed: Governed) -> dict[str, Any]:
    """The request with what it leaves out as the model was evaluated: system prompt, sampling, limit of new tokens."""
    request_body = dict(body)
    sampling = governed.sampling
    if request_body.get("max_tokens") is None and request_body.get("max_completion_tokens") is None:
        request_body["max_tokens"] = sampling.max_new_tokens
    for name, value in (("temperature", sampling.temperature), ("top_p", sampling.top_p)):
        if request_body.get(name) is None:
            request_body[name] = value
    request_body["messages"] = _with_system(request_body["messages"], governed)
    return request_body


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as a backend gets it: written anew, so it reads what the rules have read."""
    return _ENCODER.encode(body).encode("ascii")


def _with_system(messages: Sequence[Mapping[str, Any]], governed: Governed) -> list[Mapping[str, Any]]:
    if any(message.get("role") in _SYSTEM_ROLES for message in messages):
        return [*messages]
    if governed.chat.system == "role":
        return [{"role": "system", "content": governed.system}, *messages]
    first = messages[0]
    if first.get("role") == "user" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{governed.system}\n\n{first['content']}"}, *messages[1:]]
    return [{"role": "user", "content": governed.system}, *messages]


def _words(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error).split("\n")[0][:120]
