"""Training rows on disk: one canonical JSON object a line. The files stay on the operator's machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.training import Method
from modelsmith.schema.training_row import PreferencePair, Prompt, TrainingRow
from modelsmith.signing.files import write_atomically

__all__ = ["ROW_OF", "TrainingRow", "read_rows", "row_id", "rows_digest", "write_rows"]

Row = TypeVar("Row", bound=Frozen)

ROW_OF: Final[dict[Method, type[Frozen]]] = {"sft": TrainingRow, "dpo": PreferencePair, "grpo": Prompt}
"""The type of one line of a method's rows."""


def write_rows(path: Path, rows: Iterable[Frozen]) -> None:
    """Write the rows as JSONL, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, b"".join(_line(row) for row in rows))


def read_rows(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    """The rows of a JSONL file, in order, each of this kind (see `ROW_OF`).

    Raises:
        InvalidInput: ``missing-rows`` when there is no such file, ``invalid-rows`` when a line is not a training row.
    """
    try:
        lines = read_plain(path).splitlines()
    except FileNotFoundError:
        raise InvalidInput(
            "missing-rows",
            f"There are no training rows at {path.name}.",
            "Diagnose a run to make them.",
            file=path.name,
        ) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError:
            raise InvalidInput(
                "invalid-rows",
                f"Line {number} of {path.name} is not a training row.",
                "Diagnose the run again to make the rows anew.",
                line=number,
            ) from None
    return tuple(rows)


def rows_digest(rows: Iterable[Frozen]) -> str:
    """``sha256:<64 hex>`` over the rows in order: the digest of the file that `write_rows` writes."""
    total = hashlib.sha256()
    for row in rows:
        total.update(_line(row))
    return "sha256:" + total.hexdigest()


def row_id(row: Frozen) -> str:
    """Twelve hex digits by which people name a row: the beginning of the digest of its line."""
    return hashlib.sha256(_line(row)).hexdigest()[:12]


def _line(row: Frozen) -> bytes:
    return canonical_json(row) + b"\n"
