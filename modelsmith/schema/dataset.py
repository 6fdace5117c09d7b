"""Data sets: governed manifests of a customer's own rows, which stay outside git."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Digest, Frozen, Slug
from modelsmith.schema.plaintext import PlainLine

_PART = r"[^./\x00-\x1f\\][^/\x00-\x1f\\]{0,199}"
"""Of a path; none begins with a dot, so that none leads upwards or to what is hidden."""
DATASET_URI = rf"^file:(?://(?:/{_PART})+|{_PART}(?:/{_PART})*)$"
Column = Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,200}$")]
"""Name of a column: a key of a JSON line, or a column at the top of a Parquet file."""


class Columns(Frozen):
    """Which columns hold what a training row needs."""

    prompt: Column
    """Text that the model is given."""
    answer: Column
    """Text that is the right answer."""
    reference: Column | None = None
    """The right answer field by field, as a JSON object or its text; the answer itself is read as JSON when not set."""
    capability: Column | None = None
    """Capability that the row is about."""


class Dataset(Frozen):
    """``evals/<domain>/<set>/datasets/<id>.yaml``: rows of the customer's own, for training and for nothing else.

    The rows are not part of the repository. They are read on a machine whose owner has named the folder that they lie
    in, and only when their bytes have the digest that stands here.
    """

    id: Slug
    """Equals the file's name."""
    uri: Annotated[str, Field(pattern=DATASET_URI, max_length=1024)]
    """``file:<path>`` below a folder that the machine names, or ``file:///<path>`` in one of these folders."""
    digest: Digest
    """SHA-256 of the file."""
    format: Literal["jsonl", "parquet"]
    license: Annotated[PlainLine, Field(min_length=1, max_length=200)]
    """SPDX id of the rows' licence, or ``LicenseRef-<name>`` for one of your own."""
    owner: Slug
    """Role that answers for the rows."""
    columns: Columns
    capability: Slug | None = None
    """Capability of every row, where no column says it."""
    retain_until: Annotated[date, Field(strict=False)]
    """Last day on which the rows may be used; from the next day on they are not."""

    @model_validator(mode="after")
    def _one_capability(self) -> Self:
        if (self.capability is None) == (self.columns.capability is None):
            raise ValueError("give either capability or columns.capability")
        return self
