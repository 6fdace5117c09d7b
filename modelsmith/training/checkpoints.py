"""Checkpoints that can be trusted after a kill: a listing of digests, written last, says that a folder is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from modelsmith.fleet.folder import COMPLETE, clear, listing
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically


def seal_checkpoint(folder: Path) -> None:
    """Mark the checkpoint as whole."""
    write_atomically(folder / COMPLETE, canonical_json(_files(folder)))


def is_intact(folder: Path) -> bool:
    """Whether every file is as it was when the checkpoint was sealed."""
    try:
        sealed = json.loads(read_plain(folder / COMPLETE))
    except (OSError, ValueError, RecursionError):
        return False
    return bool(sealed) and sealed == _files(folder)


def last_intact(checkpoints: Path) -> Path | None:
    """The intact checkpoint with the most steps; torn or damaged ones beyond it are removed."""
    folders = [p for p in checkpoints.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    for folder in sorted(folders, key=lambda p: int(p.name.removeprefix("checkpoint-")), reverse=True):
        if is_intact(folder):
            return folder
        clear(folder)
    return None


def keep_only_last(checkpoints: Path) -> None:
    """Remove every checkpoint but the intact one with the most steps: the others are room."""
    last = last_intact(checkpoints)
    for folder in checkpoints.glob("*"):
        if folder != last:
            shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in listing(folder).items() if name != COMPLETE}
