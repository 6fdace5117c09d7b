"""Canonical JSON (RFC 8785) and the digests built on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any, TypeVar

import rfc8785
from pydantic import BaseModel

from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.plaintext import first_unwelcome

T = TypeVar("T", bound=BaseModel)


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value or pydantic model (dumped in JSON mode)."""
    data: bytes = rfc8785.dumps(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)
    return data


def is_canonical(data: bytes, value: Any) -> bool:
    """Whether the bytes are the canonical JSON of the value; no bytes are that of one that RFC 8785 cannot write."""
    try:
        return canonical_json(value) == data
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
    return digest(value.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(exclude)))


def file_digest(path: Path) -> str:
    """``sha256:<64 hex>`` of a file, read in blocks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _bad(path: str, what: str) -> IntegrityFailure:
    return IntegrityFailure("bad-file", f"{path} is not {what}", "Restore it from history.", path=path)
