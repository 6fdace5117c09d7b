"""The door's log: a line of JSON for each request, and for trouble. No prompt, no answer, no key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
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

    What cannot be written is left out; serving goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = Behind[dict[str, Any]]("door-log", PAUSE, self._write, _MOST_WAITING)

    def note(self, kind: str, /, **facts: Any) -> None:
        """Add a line to the journal."""
        self._lines.put({"at": datetime.now(UTC), "what": kind, **facts})

    def close(self) -> None:
        """Write what waits, and end."""
        self._lines.close()

    def _write(self, noted: Sequence[dict[str, Any]]) -> None:
        lines = map(_line, noted)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > LARGEST:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(lines)


def _line(facts: dict[str, Any]) -> str:
    at = facts["at"].isoformat(timespec="milliseconds")
    return json.dumps({**facts, "at": at}) + "\n"
