"""The latch: this deployment was taken back here, and no crash, clock or full disk makes traffic go forward again.

A latch is a file that is named after the deployment's record. That the file is there is all that counts: a damaged one
latches too, and no time is read. It lies under the git directory, where no commit can put or remove anything. It is
never removed: the next deployment has another record. That one needs a person who clears the hold on main.

Room for it is set aside when a deployment comes under watch, so that it can be written when the disk is full.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelsmith.schema.base import Digest, Frozen, Moment, Slug
from modelsmith.schema.live import Counts
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import sync_folder

_ROOM: Final = 65_536
"""Bytes set aside for one latch; one has some 2,000."""


class Latched(Frozen):
    """Why a deployment was taken back."""

    cluster: Slug
    specialist: str
    record: Digest
    """Digest of the record that deployed it."""
    at: Moment
    """The door's clock. For people: nothing is decided by it."""
    reasons: tuple[str, ...]
    counts: Counts
    """The counts at the moment when the rule tripped."""


class Latches:
    """The latches of one clone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._within = folder, f"{folder}{os.sep}"

    def path(self, record: str) -> Path:
        """Where the latch of a deployment lies."""
        return self.folder / f"{record.removeprefix('sha256:')}.json"

    def is_set(self, record: str) -> bool:
        """Whether the deployment was taken back. Some microseconds: asked before every request."""
        return os.path.lexists(f"{self._within}{record.removeprefix('sha256:')}.json")

    def reserve(self, record: str) -> None:
        """Set room aside for a deployment's latch.

        Raises:
            OSError: there is none.
        """
        room = self._room(record)
        if room.exists() or self.is_set(record):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        part = room.with_suffix(f".{secrets.token_hex(4)}.part")  # of this door alone: another one may do the same now
        try:
            with part.open("wb") as file:
                file.write(os.urandom(_ROOM))
                file.flush()
                os.fsync(file.fileno())
            part.replace(room)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self.folder)

    def set(self, latch: Latched) -> None:
        """Latch: on disk, synced, before this returns. The first latch of a deployment stays as it is.

        Raises:
            OSError: it could not be written; the caller holds it in memory and tries again.
        """
        if self.is_set(latch.record):
            return
        data = json.dumps(latch.model_dump(mode="json"), sort_keys=True).encode()[:_ROOM]
        self.folder.mkdir(parents=True, exist_ok=True)
        room = self._room(latch.record)
        with room.open("r+b" if room.exists() else "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            file.truncate()
            os.fsync(file.fileno())
        room.replace(self.path(latch.record))
        sync_folder(self.folder)

    def read(self, record: str) -> Latched | None:
        """What a latch says; None for one that cannot be read, which holds all the same."""
        with suppress(OSError, ValidationError):
            return Latched.model_validate_json(read_plain(self.path(record)))
        return None

    def _room(self, record: str) -> Path:
        return self.path(record).with_suffix(".room")
