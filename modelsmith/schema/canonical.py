"""Canonical JSON (RFC 8785) and the digests built on it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, TypeVar

import rfc8785
from pydantic import BaseModel

from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.plaintext import first_unwelcome

T = TypeVar("T", bound=BaseModel)

_QUICK = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_BEYOND = 0xF0
"""First byte of characters beyond U+FFFF in UTF-8: keys that hold such are ordered otherwise by RFC 8785."""
_NUMBER = re.compile(rb"[:\[,](-?(?:[0-9]+\.0(?![0-9])|[0-9.]+e[-+][0-9]+|[0-9]{16,}(?![0-9.])))")
"""What looks like a number, if only in a text, that RFC 8785 may spell otherwise or refuse; and what stands before it,
by which it is found several times as fast as by looking behind."""
_DIGITS = bytes.maketrans(b"123456789+", b"000000000-")
"""Every digit as 0 and every sign as a minus, so that plain search finds numbers."""
_SHORT = 1 << 13
"""Bytes below which the pattern is searched for as it is: plain searches cost something each."""
_FRACTION = 32
"""Python writes no fraction with as many characters."""


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value or pydantic model (dumped in JSON mode)."""
    return _encoded(value.model_dump(mode="json")) if isinstance(value, BaseModel) else _exactly(value)


def _encoded(value: Any) -> bytes:
    """Canonical JSON of what was JSON before, so that all its keys are texts.

    By Python's own encoder, which is some ten times as fast, where both write the same.
    """
    try:
        data = _QUICK.encode(value).encode()
    except ValueError:
        return _exactly(value)
    ordered = data.isascii() or max(data) < _BEYOND
    spelled = _respelled(data) if ordered and isinstance(value, dict | list) else None
    return _exactly(value) if spelled is None else spelled


def _respelled(data: bytes) -> bytes | None:
    """The same JSON with numbers as RFC 8785 spells them; None where that is not easily said.

    Where no text holds an escape, what has an odd number of quotes before it stands in a text.
    """
    parts: list[bytes] = []
    at = quotes = 0
    for begin in _odd_numbers(data):
        match = _NUMBER.match(data, begin)
        if not match or begin < at:
            continue
        if not at and b"\\" in data:
            return None
        begin, end = match.span(1)
        quotes += data.count(b'"', at, begin)
        number = match[1]
        parts += [data[at:begin], number if quotes % 2 else _exactly(json.loads(number))]
        at = end
    return b"".join([*parts, data[at:]])


def _odd_numbers(data: bytes) -> list[int]:
    """What stands before each place where `_NUMBER` may match outside of a text, in order.

    Plain search for what such numbers hold takes a tenth of the time of the pattern.
    """
    if len(data) < _SHORT:
        return [match.start() for match in _NUMBER.finditer(data)]
    plain = data.translate(_DIGITS)
    positions = [
        at + len(before) - 1
        for before in (b'":', b"[", b",")
        for sign in (b"", b"-")
        for at in _places(plain, before + sign + b"0" * 16)
    ]
    ends = [*_places(plain, b"0e-"), *(at for mark in (b".0,", b".0}", b".0]") for at in _places(data, mark))]
    for end in ends:
        run = plain[max(0, end - _FRACTION) : end]
        length = len(run) - len(run.rstrip(b"0.-"))
        if length < _FRACTION:
            positions.append(end - length - 1)
    return sorted({*positions})


def _places(data: bytes, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def _exactly(value: Any) -> bytes:
    data: bytes = rfc8785.dumps(value)
    return data


def is_canonical(data: bytes, value: Any) -> bool:
    """Whether the bytes are the canonical JSON of a model or a value that was read from JSON.

    No bytes are that of one that RFC 8785 cannot write.
    """
    try:
        return (canonical_json(value) if isinstance(value, BaseModel) else _encoded(value)) == data
    except ValueError:
        return False


def is_plain_canonical(data: bytes, value: Any) -> bool:
    """`is_canonical`, and plain text: RFC 8785 writes what ends a line, hides or turns text around as it is.

    Of what is committed, a diff, a parser and a terminal then see the same.
    """
    return is_canonical(data, value) and first_unwelcome(data.decode()) is None


def parse_canonical(path: str, data: bytes, model: type[T]) -> T:
    """The value in a machine-written file; ``path`` is for messages.

    What an older toolkit wrote may lack fields that were added since: they have their defaults, and the bytes stay as
    they were signed.

    Raises:
        IntegrityFailure: ``bad-file`` unless the bytes are canonical JSON and plain text, and say a value of this type.
    """
    try:
        value = model.model_validate_json(data)
    except ValueError:
        raise _bad(path, f"of type {model.__name__}") from None
    if not is_canonical(data, json.loads(data)):
        raise _bad(path, "canonical JSON (RFC 8785)")
    odd = first_unwelcome(data.decode())
    if odd is not None:
        raise _bad(path, f"plain text: it holds {odd.name}")
    return value


def sha256(data: bytes) -> str:
    """``sha256:<64 hex>`` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """``sha256:<64 hex>`` of the canonical JSON of the value."""
    return sha256(canonical_json(value))


def content_digest(value: BaseModel, exclude: Set[str] = frozenset()) -> str:
    """``sha256:<64 hex>`` of what a governed file says.

    Fields at their default do not count, so a toolkit that adds an optional field changes no identity.
    """
    return sha256(_encoded(value.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(exclude))))


def file_digest(path: Path) -> str:
    """``sha256:<64 hex>`` of a file, read in blocks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _bad(path: str, expected: str) -> IntegrityFailure:
    return IntegrityFailure("bad-file", f"{path} is not {expected}", "Restore it from history.", path=path)
