"""Why a front door of this clone has not loaded who is in the shadow, for whoever looks at the shadow elsewhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically


class _Unloaded(Frozen):
    record: Digest
    why: str


def note_unloaded(folder: Path, cluster: str, record: str, why: str | None) -> None:
    """Note why the model of a record is not at hand, or with None that it is; what cannot be written is left out."""
    with suppress(OSError):
        if why is None:
            _path(folder, cluster).unlink(missing_ok=True)
            return
        _path(folder, cluster).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_path(folder, cluster), _Unloaded(record=record, why=why).model_dump_json().encode())


def why_unloaded(folder: Path, cluster: str, record: str) -> str | None:
    """What a door noted last of a record's model; None where it is at hand, or no door has looked for it."""
    with suppress(OSError, ValidationError):
        unloaded = _Unloaded.model_validate_json(read_plain(_path(folder, cluster)))
        return unloaded.why if unloaded.record == record else None
    return None


def _path(folder: Path, cluster: str) -> Path:
    return folder / "unloaded" / f"{cluster}.json"
