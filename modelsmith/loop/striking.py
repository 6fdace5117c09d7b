"""Rows that somebody takes out before training: recorded, gone from the rows, and left out if these are made again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelsmith.diagnosis.generate import plain
from modelsmith.loop.recipe import begins_with, stage_folder
from modelsmith.loop.training import JOB_FOLDER, ROWS_FILE, training_begun
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.diagnosis import Strikes, Struck
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.steps import Step, step
from modelsmith.schema.training import Stage
from modelsmith.schema.training_row import TrainingRow
from modelsmith.signing.files import write_atomically
from modelsmith.training.rows import read_rows, row_id, write_rows

STRUCK_FILE: Final = "struck.json"


def read_strikes(folder: Path) -> Strikes:
    """The rows that were struck from an iteration's folder, with their reasons.

    Raises:
        InfrastructureFailure: ``diagnosis-damaged``.
    """
    try:
        return Strikes.model_validate_json(read_plain(folder / STRUCK_FILE))
    except FileNotFoundError:
        return Strikes()
    except ValidationError:
        raise InfrastructureFailure(
            "diagnosis-damaged",
            f"{folder / STRUCK_FILE} does not say what was struck.",
            "Begin the iteration anew: `{next}`.",
            path=str(folder / STRUCK_FILE),
        ).then(_anew(folder)) from None


def _cluster(folder: Path) -> str:
    """Whose iteration lies in the folder: `Workspace.cluster_folder`, then ``iterations/NNN``."""
    return folder.parents[1].name


def _anew(folder: Path) -> Step:
    return step("iterate", {"cluster": _cluster(folder)}, restart=True)


def honour(folder: Path, stages: Sequence[Stage]) -> None:
    """Take what was struck out of what every stage begins with, also where a strike was interrupted after its note."""
    struck = read_strikes(folder).rows
    for number, stage in enumerate(stages, start=1):
        own = stage_folder(folder, number)
        if struck and not (own / JOB_FOLDER).exists():
            path, kind = begins_with(own, stage)
            write_rows(path, [row for row in read_rows(path, kind) if row_id(plain(row)) not in struck])


def strike(folder: Path, names: Sequence[str], reason: str, at: datetime) -> tuple[TrainingRow, ...]:
    """Take the named rows out and note it; the rows that are left.

    Raises:
        InvalidInput: ``rows-in-use`` once training has begun, ``unknown-row``, ``no-rows-left``, ``missing-rows``.
    """
    if training_begun(folder):
        raise InvalidInput(
            "rows-in-use",
            f"Iteration {folder.name} trains on its rows already, or has been trained on them",
            "Strike rows while an iteration waits for it: `{next}`.",
            iteration=folder.name,
        ).then(step("iterate", {"cluster": _cluster(folder)}, review_rows=True))
    rows = read_rows(folder / ROWS_FILE, TrainingRow)
    ids = {row_id(row) for row in rows}
    if unknown := sorted(set(names) - ids):
        raise InvalidInput(
            "unknown-row",
            f"Iteration {folder.name} has no row {unknown[0]!a}",
            "Name rows as `modelsmith review-synthetic` does.",
            rows=unknown,
        )
    remaining = tuple(row for row in rows if row_id(row) not in names)
    if not remaining:
        raise InvalidInput(
            "no-rows-left",
            "No row would be left to train on",
            "Mend the generators instead, then begin anew: `{next}`.",
        ).then(_anew(folder))
    struck = Struck(rows=tuple(sorted(set(names))), reason=reason, at=at)
    strikes = Strikes(strikes=(*read_strikes(folder).strikes, struck))
    write_atomically(folder / STRUCK_FILE, canonical_json(strikes))
    write_rows(folder / ROWS_FILE, remaining)
    return remaining
