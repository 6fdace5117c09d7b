"""How far a subscriber has heard, and what could not be delivered to it, on disk."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from modelsmith.schema.base import Frozen
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically


class Place(Frozen):
    """How far a subscriber has been served, and when it is tried again."""

    cursor: str | None = None
    """Of the last event that it has had, that was not for it, or that was given up."""
    attempts: int = 0
    """How often the next one was tried in vain."""
    due: float = 0.0
    """When it is tried again, in seconds since 1970."""
    failure: str = ""
    """Why the last attempt failed, in our own words."""


class DeadLetter(Frozen):
    """An event that was given up."""

    id: str
    name: str
    reason: str
    envelope: str
    """The CloudEvent, since a ledger can be lost."""


class Mailbox:
    """The files of one subscriber: its place in the events, and its dead letters."""

    def __init__(self, folder: Path, name: str) -> None:
        self._place = folder / f"{name}.place.json"
        self._dead = folder / f"{name}.dead.jsonl"
        self._lock = FileLock(folder / f"{name}.lock", timeout=10, mode=0o600)

    def place(self) -> Place:
        """Where it stands; at the beginning where nothing says it."""
        try:
            return Place.model_validate_json(read_plain(self._place))
        except (FileNotFoundError, ValidationError):
            return Place()

    def stand(self, place: Place) -> None:
        """Remember the subscriber's place in the events."""
        write_atomically(self._place, place.model_dump_json().encode())

    def dead(self) -> list[DeadLetter]:
        """What was given up, oldest first. A line that a kill has cut short is none: its event is tried again."""
        try:
            lines = read_plain(self._dead).splitlines()
        except FileNotFoundError:
            return []
        return [letter for line in lines if (letter := _read(line)) is not None]

    def bury(self, letter: DeadLetter) -> None:
        """Keep an event that was given up; once, however often it is given up."""
        with self._lock:
            others = [other for other in self.dead() if other.id != letter.id]
            self._write([*others, letter])

    def unbury(self, delivered: Collection[str]) -> None:
        """Forget dead letters by id."""
        with self._lock:
            self._write(letter for letter in self.dead() if letter.id not in delivered)

    def forget(self) -> None:
        """Remove the subscriber's files."""
        for path in (self._place, self._dead):
            path.unlink(missing_ok=True)

    def _write(self, letters: Iterable[DeadLetter]) -> None:
        write_atomically(self._dead, "".join(f"{letter.model_dump_json()}\n" for letter in letters).encode())


def _read(line: bytes) -> DeadLetter | None:
    try:
        return DeadLetter.model_validate(json.loads(line))
    except (ValueError, ValidationError):
        return None
