"""Reading an answer as strict JSON, and comparing JSON values.

Strict means: the answer, stripped of surrounding white space, is exactly one JSON value (RFC 8259). A code fence, text
before or after it, a repeated key, ``NaN``, ``Infinity``, a number beyond the range of a 64-bit float, more than 1 MiB
or more than 32 levels of nesting make it no answer. Nothing a model can write raises an exception here.
"""

from __future__ import annotations

import json
import math
from functools import cache, lru_cache

from pydantic import JsonValue

from modelsmith.normal_form import normalized

MAX_BYTES = 1_048_576
"""Largest answer that is looked at, in UTF-8 bytes."""
MAX_DEPTH = 32
"""Deepest nesting of arrays and objects in an answer."""


class _NotStrictError(ValueError):
    """Valid for Python's reader, but not for ours."""


def too_long(text: str) -> str:
    """Why the text is too long to be an answer, or an empty string."""
    if len(text) > MAX_BYTES or (len(text) * 4 > MAX_BYTES and len(text.encode("utf-8", "replace")) > MAX_BYTES):
        return f"the answer is longer than {MAX_BYTES} bytes"
    return ""


@lru_cache(maxsize=8)
def read_answer_once(text: str) -> tuple[JsonValue, str]:
    """An answer's value, read once for all points of a rubric: only for this room, where nobody changes it."""
    return read_answer(text)


def read_answer(text: str) -> tuple[JsonValue, str]:
    """The JSON value of an answer and an empty string; or ``None`` and why it is not exactly one JSON value.

    The value is the caller's own.

    >>> read_answer('{"cause": "timeout"}')
    ({'cause': 'timeout'}, '')
    >>> read_answer("a timeout")
    (None, 'the answer is not JSON: Expecting value at character 1')
    """
    if problem := too_long(text):
        return None, problem
    stripped = text.strip()
    if not stripped:
        return None, "the answer is empty"
    if stripped.startswith("```"):
        return None, "the answer is wrapped in a code fence instead of being exactly one JSON value"
    try:
        value: JsonValue = _decoder().decode(stripped)
    except RecursionError:
        return None, f"the answer is nested more than {MAX_DEPTH} levels deep"
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return None, f"the answer goes on after its JSON value, from character {error.pos + 1}"
        return None, f"the answer is not JSON: {error.msg} at character {error.pos + 1}"
    except _NotStrictError as error:
        return None, f"the answer is not strict JSON: {error}"
    if _deeper_than(value, MAX_DEPTH):
        return None, f"the answer is nested more than {MAX_DEPTH} levels deep"
    if stripped.isascii() and "\\u" not in stripped:
        return value, ""
    try:
        return composed(value), ""
    except _NotStrictError as error:
        return None, f"the answer is not strict JSON: {error}"


@cache
def _decoder() -> json.JSONDecoder:
    """Made once: `json.loads` makes one for each answer."""
    return json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer)


def composed(value: JsonValue) -> JsonValue:
    """The value with every text in Unicode's composed form (NFC), so that one letter has one spelling.

    Raises:
        ValueError: two keys of an object are one then.
    """
    if isinstance(value, str):
        return composed_text(value)
    if isinstance(value, list):
        return [composed(item) for item in value]
    if isinstance(value, dict):
        return _object([(composed_text(key), composed(member)) for key, member in value.items()])
    return value


def composed_text(text: str) -> str:
    """The text in Unicode's composed form (NFC)."""
    return normalized("NFC", text)


def look_up(value: JsonValue, path: str) -> tuple[JsonValue, bool]:
    """The value at a dotted path (keys of objects, positions in arrays) and whether it exists.

    >>> look_up({"a": {"b": [1, 2]}}, "a.b")
    ([1, 2], True)
    >>> look_up({"a": 1}, "a.b")
    (None, False)
    """
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif (
            isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(value)
        ):
            value = value[int(step)]
        else:
            return None, False
    return value, True


def same(value: JsonValue, other: JsonValue) -> bool:
    """Equality of JSON values: ``1`` equals ``1.0``, but ``true`` does not equal ``1``.

    >>> same(1, 1.0), same(1, True)
    (True, False)
    """
    if isinstance(value, bool) or isinstance(other, bool) or value is None or other is None:
        return value is other
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    return value == other


def short_json(value: JsonValue, limit: int = 80) -> str:
    """A value as short ASCII JSON for a reason.

    >>> short_json("a long answer", 10)
    '"a long...'
    """
    text = json.dumps(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _object(pairs: list[tuple[str, JsonValue]]) -> JsonValue:
    members = dict(pairs)
    if len(members) != len(pairs):
        known_keys: set[str] = set()
        repeated = next(key for key, _ in pairs if key in known_keys or known_keys.add(key))  # type: ignore[func-returns-value]
        raise _NotStrictError(f"the key {short_json(repeated)} appears more than once")
    return members


def _constant(name: str) -> JsonValue:
    raise _NotStrictError(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NotStrictError(f"the number {short_json(digits, 24)} is out of range")
    return number


def _integer(digits: str) -> int:
    if not math.isfinite(float(digits)):
        raise _NotStrictError(f"the number {short_json(digits, 24)} is out of range")
    return int(digits)


def _deeper_than(value: JsonValue, limit: int) -> bool:
    level: list[JsonValue] = [value]
    depth = 0
    while containers := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        if depth > limit:
            return True
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return False
