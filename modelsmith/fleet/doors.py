"""How busy the front doors of this machine are, as they say it themselves, for whoever shares the machine with them.

Each door keeps one small file in a folder of ``MODELSMITH_HOME``, outside of every clone, and writes it anew some times
a second. A file that has not been written for a while is that of a door that ended or hangs: nobody waits for it.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from modelsmith.schema.base import Frozen

FOLDER: Final = "doors"
"""In ``MODELSMITH_HOME``."""
EVERY: Final = 0.25
"""Seconds between two signs of a door."""
ALIVE: Final = 10.0
"""Seconds after which a door without a further sign is none."""
RECENT: Final = 30.0
"""Seconds of answers by which a door is judged."""
_MOST_ANSWERS: Final = 4096
_MOST_BYTES: Final = 4096
_Count = Annotated[int, Field(ge=0)]


class Busy(Frozen):
    """How busy one door is."""

    machine: str
    at: float
    """Seconds on the machine's steady clock, which all of its processes share and no correction of time moves."""
    requests: _Count
    """Under way, or waiting for their turn."""
    answers: _Count
    """Of the last half minute."""
    p95: Annotated[float, Field(ge=0)] | None
    """Milliseconds to the last token that all but a twentieth of them took at most; None without an answer."""


def doors_folder(home: Path) -> Path:
    """Where the doors of a home say how busy they are."""
    return home / FOLDER


class DoorSign:
    """One door's own file."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.json"
        self._answers: deque[tuple[float, float]] = deque(maxlen=_MOST_ANSWERS)

    def answered(self, milliseconds: float) -> None:
        """Note an answer that came to its end now."""
        self._answers.append((self._clock(), milliseconds))

    def recent(self) -> list[float]:
        """How long the answers of the last half minute took; of more than 4,096, the last of them."""
        now = self._clock()
        return [took for at, took in self._answers if now - at <= RECENT]

    def write(self, requests: int, answers: Sequence[float]) -> None:
        """Say how things stand. It may be called in another thread than the others, with what `recent` gave.

        Raises:
            OSError: the home takes no file.
        """
        now, recent = self._clock(), sorted(answers)
        p95 = recent[max(0, -(-95 * len(recent) // 100) - 1)] if recent else None
        busy = Busy(machine=platform.node(), at=now, requests=requests, answers=len(recent), p95=p95)
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(busy.model_dump_json(), encoding="utf-8")
        part.replace(self._path)

    def close(self) -> None:
        """Take the file away, and those of doors that ended without."""
        with suppress(OSError):
            gone = [path for path in self._folder.iterdir() if time.time() - path.stat().st_mtime > 86_400]
            for path in (self._path, self._path.with_suffix(".part"), *gone):
                path.unlink(missing_ok=True)


def busy_doors(folder: Path, clock: Callable[[], float] = time.monotonic) -> list[Busy]:
    """The doors of this machine that live; what cannot be read is none."""
    found = []
    with suppress(OSError):
        for path in folder.glob("*.json"):
            with suppress(OSError, ValidationError), path.open("rb") as file:
                one = Busy.model_validate_json(file.read(_MOST_BYTES))
                if one.machine == platform.node() and 0 <= clock() - one.at <= ALIVE:
                    found.append(one)
    return found
