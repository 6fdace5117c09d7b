"""JSON of strangers that every reader reads alike: what two readers could read differently is refused. Pure."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NoReturn

DEEPEST = 64
"""Levels of a document at most; schemas of tools have some ten."""
MOST = 20_000
"""Values of a document at most: a MiB of empty lists takes 25 MiB of memory, and a second to read."""
_DIGITS = 19
_TEXTS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""Every text of a document; one that does not end goes on to its end, so that none is looked for twice."""
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""How half of a character (a surrogate) is written; two of them may make a whole one."""


def read_json(raw: bytes) -> Any:
    """The document that a JSON text is, if all readers agree about it.

    Raises:
        ValueError: it is not JSON in UTF-8, names a field twice, holds a number that JSON does not know or that others
            round, half of a character, which no reader can write again, or more than `MOST` values.
        RecursionError: it is nested deeper than `DEEPEST`.
    """
    text = raw.decode()
    if _separators(raw) > MOST and _separators(_TEXTS.sub(b"", raw)) > MOST:
        raise ValueError(f"it holds more than {MOST} values")
    document = _decoder().decode(text)
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _refuse_deep(document)
    if _HALF.search(text):
        _refuse_halves(document)
    return document


@cache
def _decoder() -> json.JSONDecoder:
    """Made once: to make one takes longer than to read a short document."""
    return json.JSONDecoder(
        object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite, parse_int=_bounded_integer
    )


def _separators(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a field is named twice")
    return mapping


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _bounded_integer(word: str) -> int:
    if len(word) > _DIGITS:
        raise ValueError("a number is too large")
    return int(word)


def _finite(word: str) -> float:
    number = float(word)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def _refuse_deep(document: Any) -> None:
    level = [document]
    for _ in range(DEEPEST):
        level = [
            below
            for item in level
            if isinstance(item, (dict, list))
            for below in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise RecursionError


def _refuse_halves(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a character") from None
