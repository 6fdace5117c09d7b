"""The customer's own rows: found where this machine keeps them, and read only when their bytes are the named ones.

A manifest comes with a commit, and whoever writes a proposal can write one. So the folders that may be read are named
on this machine and by no governed file; a link that leads out of them is not followed; and what is read is a copy that
this process alone holds, whose digest was taken while it was made. Nothing of a file with another digest is shown.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Any, Final

from modelsmith.diagnosis.sources import NoRow, Offer, row_of
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Slug
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.training_row import TrainingRow

SETTING: Final = "datasets"
"""``git config --add modelsmith.datasets /data/ours``: a folder below which data sets may be read."""
LONGEST_LINE: Final = 1 << 20
"""Bytes of a line of JSONL; a longer one is not a row."""
MOST_GROUP: Final = 1 << 28
"""Bytes that the mapped columns of one row group of a Parquet file may unpack to."""
_BLOCK: Final = 1 << 20
_NOTES: Final = 5
_BATCH: Final = 256


def offer_of(workspace: Workspace, governed: GovernedSet, dataset: Dataset, most: int, seed: int, today: date) -> Offer:
    """What a data set offers: ``most`` rows of each capability, drawn evenly (reservoir sampling, Vitter's R).

    Raises:
        InvalidInput: ``dataset-not-allowed``, ``dataset-missing``, ``dataset-changed``, ``dataset-unreadable``.
        InfrastructureFailure: ``extra-missing`` for Parquet without its reader.
    """
    offer = Offer("dataset", dataset.id)
    if today > dataset.retain_until:
        offer.notes.append(f"{dataset.id} might be used until {dataset.retain_until}: none of its rows is")
        offer.rejected["retention-over"] += 1
        return offer
    chance = random.Random(f"{dataset.id} {seed}")  # noqa: S311
    counts: dict[Slug, int] = defaultdict(int)
    drawn: dict[Slug, list[TrainingRow]] = defaultdict(list)
    with tempfile.TemporaryFile(dir=_spool(workspace)) as copy:
        _copy(dataset, located(workspace, dataset), copy)
        for line, record in _records(dataset, copy):
            offer.offered += 1
            try:
                if isinstance(record, NoRow):
                    raise record
                row = row_of(governed, dataset, record, line)
            except NoRow as error:
                offer.rejected[error.reason] += 1
                if len(offer.notes) < _NOTES:
                    offer.notes.append(f"{dataset.id}, line {line}: {error}")
                continue
            assert row.lineage
            name = row.lineage.capability
            counts[name] += 1
            if len(drawn[name]) < most:
                drawn[name].append(row)
            elif (at := chance.randrange(counts[name])) < most:
                drawn[name][at] = row
    if offer.offered and offer.rejected["unreadable"] == offer.offered:
        raise _unreadable(dataset, f"none of its {offer.offered} rows is one ({offer.notes[0]})")
    offer.rows = [row for name in sorted(drawn) for row in drawn[name]]
    unused = sum(counts.values()) - len(offer.rows)
    if unused:
        offer.rejected["no-room"] += unused
    return offer


def located(workspace: Workspace, dataset: Dataset) -> Path:
    """The file of a data set, in a folder that this machine names.

    Raises:
        InvalidInput: ``dataset-not-allowed`` where no folder is named or the file lies in none of them,
            ``dataset-missing``.
    """
    folders = [place(Path(text), Path("/")).resolve() for text in workspace.settings(SETTING)]
    named = dataset.uri.removeprefix("file:").removeprefix("//")
    if not folders:
        raise _not_allowed(dataset, "no folder is named on this machine from which data sets may be read")
    for folder in folders:
        path = (folder / named).resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    if any((folder / named).exists() for folder in folders):
        raise _not_allowed(dataset, "it lies in none of the folders from which data sets may be read")
    raise InvalidInput(
        "dataset-missing",
        f"The rows of the data set {dataset.id} are not at {dataset.uri}, below any folder that this machine names",
        f"Put the file there, or name its folder: git config --local --add modelsmith.{SETTING} /FOLDER",
        dataset=dataset.id,
    )


def _not_allowed(dataset: Dataset, why: str) -> InvalidInput:
    return InvalidInput(
        "dataset-not-allowed",
        f"The data set {dataset.id} names {dataset.uri}, and {why}",
        f"If you trust it: git config --local --add modelsmith.{SETTING} /FOLDER, with the folder that holds its rows.",
        dataset=dataset.id,
    )


def _spool(workspace: Workspace) -> Path:
    folder = workspace.private / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy(dataset: Dataset, path: Path, copy: IO[bytes]) -> None:
    """Fill the copy with the file's bytes, or refuse them: they may change while they are read, the copy does not."""
    total = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        while regular and (block := file.read(_BLOCK)):
            total.update(block)
            copy.write(block)
    if not regular or f"sha256:{total.hexdigest()}" != dataset.digest:
        raise InvalidInput(
            "dataset-changed",
            f"The rows of the data set {dataset.id} are not those that its manifest names by digest",
            "Put the named file back; or, if the new rows are meant, propose their digest in the manifest.",
            dataset=dataset.id,
        )
    copy.seek(0)


def _records(dataset: Dataset, file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | NoRow]]:
    return _lines(file) if dataset.format == "jsonl" else _parquet(dataset, file)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | NoRow]]:
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(_BLOCK)
            yield number, NoRow("unreadable", "the line has more than 1 MiB")
        elif line.strip():
            yield number, _record(line)


def _record(line: bytes) -> dict[str, Any] | NoRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return NoRow("unreadable", "it is no JSON")
    return value if isinstance(value, dict) else NoRow("unreadable", "it is no JSON object")


def _parquet(dataset: Dataset, file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | NoRow]]:
    """Rows of a Parquet file, a few at a time.

    A text that stands in a column many times is kept once (``read_dictionary``) until its row is asked for, and what a
    row group says that it unpacks to is bounded before anything is unpacked.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InfrastructureFailure(
            "extra-missing",
            "Parquet is read by pyarrow, which is not installed",
            "Install it: pip install 'modelsmith[train]'.",
            extra="train",
        ) from None
    columns = [*dict.fromkeys(name for name in dataset.columns.model_dump().values() if name)]
    try:
        texts = _require_modest(dataset, pq.read_metadata(file), columns)
        file.seek(0)
        opened = pq.ParquetFile(file, read_dictionary=texts)
        number = 0
        for batch in opened.iter_batches(_BATCH, columns=columns, use_threads=False):
            for place in range(batch.num_rows):
                number += 1
                yield number, _cells(batch, place)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _unreadable(dataset, f"it is no Parquet file that can be read ({type(error).__name__})") from None


def _cells(batch: Any, place: int) -> dict[str, Any] | NoRow:
    try:
        return {name: _cell(batch.column(name), place) for name in batch.schema.names}
    except (ValueError, OverflowError):
        return NoRow("unreadable", "it holds a value that is too long, or no text")


def _cell(column: Any, place: int) -> Any:
    """The value; a text that many rows share is looked up, and its length before it is unpacked."""
    value = column[place]
    if hasattr(column, "dictionary") and value.is_valid:
        value = column.dictionary[value.index.as_py()]
    if value.is_valid and hasattr(value, "as_buffer") and value.as_buffer().size > LONGEST_LINE // 2:
        raise ValueError("too long")
    return value.as_py()


def _require_modest(dataset: Dataset, meta: Any, columns: Sequence[str]) -> list[str]:
    """The file's columns of plain text. Refuses a file that lacks a column, or whose row group unpacks to too much."""
    leaves = [meta.schema.column(number) for number in range(meta.num_columns)]
    if missing := sorted({*columns} - {leaf.path.split(".")[0] for leaf in leaves}):
        raise _unreadable(dataset, f"it has no column {', '.join(missing)}")
    for group in range(meta.num_row_groups):
        parts = [meta.row_group(group).column(number) for number in range(meta.num_columns)]
        size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
        if not 0 <= size <= MOST_GROUP:
            raise _unreadable(dataset, f"row group {group + 1} unpacks to more than {MOST_GROUP >> 20} MiB")
    return [leaf.path for leaf in leaves if leaf.path in columns and leaf.physical_type == "BYTE_ARRAY"]


def _unreadable(dataset: Dataset, why: str) -> InvalidInput:
    return InvalidInput(
        "dataset-unreadable",
        f"The data set {dataset.id} cannot be read: {why}",
        "Name the file's format and columns in the manifest, or write the file anew; Parquet in smaller row groups.",
        dataset=dataset.id,
    )
