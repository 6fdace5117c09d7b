"""Canonical JSON (RFC 8785) and the digests built on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import rfc8785
from pydantic import BaseModel

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode
_LARGEST_INTEGER = 2**53 - 1
_SAME_FROM, _SAME_BELOW = 1e-4, 1e16
"""Between these, Python writes a float with a fraction as RFC 8785 does."""


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value or pydantic model (dumped in JSON mode).

    Raises:
        ValueError: what is no JSON value, or cannot be written exactly: NaN, integers of 2**53 and more, half of a
            surrogate pair.
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    try:
        return _encode(_as_python_writes_it(plain)).encode("utf-8")
    except (_WrittenOtherwise, UnicodeEncodeError):
        data: bytes = rfc8785.dumps(plain)
        return data


class _WrittenOtherwise(Exception):
    """Something that RFC 8785 writes in another way than Python's encoder, which is ten times faster; or refuses."""


def _as_python_writes_it(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is dict:
        if not all(type(key) is str and key.isascii() for key in value):
            raise _WrittenOtherwise
        return {key: _as_python_writes_it(inner) for key, inner in value.items()}
    if kind is list or kind is tuple:
        return [_as_python_writes_it(inner) for inner in value]
    if kind is int and -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        return value
    if kind is float and abs(value) < _SAME_BELOW:
        if value.is_integer():
            return int(value)
        if abs(value) >= _SAME_FROM:
            return value
    raise _WrittenOtherwise


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
    return digest(value.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(exclude)))


def file_digest(path: Path) -> str:
    """``sha256:<64 hex>`` of a file, read in blocks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
