"""The door's log: a line of JSON for each request, and for trouble. No prompt, no answer, no key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from modelsmith.door.behind import Behind

PAUSE: Final = 0.25
"""Seconds between two writes."""
LARGEST: Final = 64 << 20
"""Bytes after which the file is put aside, in place of the one that was put aside before."""
_MOST_WAITING: Final = 100_000


class Journal:
    """Written now and then by a thread of its own, many lines at once: no request waits for a disk.

    What cannot be written is left out, and that is said once until it can be; serving goes on.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = lambda words: None) -> None:
        self._path, self._say, self._lost = path, say, False
        self._lines = Behind[dict[str, Any]]("door-log", PAUSE, self._write, _MOST_WAITING)

    def note(self, kind: str, /, **facts: Any) -> None:
        """Add a line to the journal."""
        self._lines.put({"at": datetime.now(UTC), "what": kind, **facts})

    def close(self) -> None:
        """Write the lines that wait, then stop."""
        self._lines.close()

    def _write(self, noted: Sequence[dict[str, Any]]) -> None:
        lines = "".join(map(_line, noted)).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file() and self._path.stat().st_size > LARGEST:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with open(self._path, "ab", opener=_open) as file:
                file.write(lines)
        except OSError as error:
            if not self._lost:
                self._say(f"NOT LOGGED: {self._path}: {error.strerror or error}. Lines are left out; serving goes on.")
            self._lost = True
        else:
            self._lost = False


def _open(path: str, flags: int) -> int:
    """Never waits, as it would for a reader where a pipe lies in the place of the file."""
    return os.open(path, flags | os.O_NONBLOCK, 0o644)


def _line(facts: dict[str, Any]) -> str:
    at = facts["at"].isoformat(timespec="milliseconds")
    return json.dumps({**facts, "at": at}) + "\n"
