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
from functools import cache
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import Field, ValidationError

from modelsmith.schema.base import Frozen
from modelsmith.schema.plain_file import read_plain

FOLDER: Final = "doors"
"""Name of the folder of doors' signs, in ``MODELSMITH_HOME``."""
DOORS_WORD: Final = "--doors"
"""Among a worker's arguments, before that folder."""
EVERY: Final = 0.25
"""Seconds between two signs of a door."""
ALIVE: Final = 10.0
"""Seconds after which a door without a further sign is none."""
RECENT: Final = 30.0
"""Seconds of answers by which a door is judged."""
_MOST_ANSWERS: Final = 4096
_MOST_BYTES: Final = 4096
_MOST = 1_000_000_000
"""Of anything that a sign counts: what says more was written by no door, and would fill a screen."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_Count = Annotated[int, Field(ge=0, le=_MOST)]


class Busy(Frozen):
    """How busy one door is."""

    machine: str
    """See `this_machine`."""
    at: float
    """Seconds on the machine's steady clock, which all of its processes share and no correction of time moves."""
    requests: _Count
    """Under way, or waiting for their turn."""
    answers: _Count
    """Of the last half minute, with those that failed or that their callers did not wait for."""
    p95: Annotated[float, Field(ge=0, le=_MOST)] | None
    """Milliseconds to the last token that all but a twentieth of them took at most; None without an answer.

    Callers who hang up would have waited longer, and what is overloaded fails at once: these can make a door look slow,
    and never quick.
    """


@cache
def this_machine() -> str:
    """What one steady clock goes by: on Linux the boot, which containers of one machine share, else the host's name.

    Two machines may have one name, containers of one have several, and after a restart the clock begins anew.
    Format: proc_sys_kernel(5), ``/proc/sys/kernel/random/boot_id``.
    """
    with suppress(OSError, ValueError):
        if boot := _BOOT.read_text(encoding="ascii").strip():
            return boot
    return platform.node()


def doors_folder(home: Path) -> Path:
    """Where the doors of a home say how busy they are."""
    return home / FOLDER


class Took(NamedTuple):
    """One answer of the door: how long it took."""

    milliseconds: float
    complete: bool
    """False: it failed, or its caller hung up then."""


class DoorSign:
    """The file in which one door says how busy it is."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.json"
        self._answers: dict[bool, deque[tuple[float, Took]]] = {
            complete: deque(maxlen=_MOST_ANSWERS) for complete in (True, False)
        }

    def answered(self, milliseconds: float, *, complete: bool = True) -> None:
        """Note an answer that came to its end now; not ``complete``: it failed, or its caller hung up."""
        self._answers[complete].append((self._clock(), Took(milliseconds, complete)))

    def recent(self) -> list[Took]:
        """How long the answers of the last half minute took; of more than 4,096 of a kind, the last of them."""
        now = self._clock()
        return [took for some in self._answers.values() for at, took in some if now - at <= RECENT]

    def write(self, requests: int, answers: Sequence[Took]) -> None:
        """Say how things stand. It may be called in another thread than the others, with what `recent` gave.

        Raises:
            OSError: the home takes no file.
        """
        complete = [answer for answer in answers if answer.complete]
        p95 = max((_p95(some) for some in (complete, answers) if some), default=None)
        busy = Busy(machine=this_machine(), at=self._clock(), requests=requests, answers=len(answers), p95=p95)
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(busy.model_dump_json(), encoding="utf-8")
        part.replace(self._path)

    def close(self) -> None:
        """Take the file away, and those of doors that ended without."""
        with suppress(OSError):
            stale = [path for path in self._folder.iterdir() if time.time() - path.stat().st_mtime > 86_400]
            for path in (self._path, self._path.with_suffix(".part"), *stale):
                path.unlink(missing_ok=True)


def _p95(answers: Sequence[Took]) -> float:
    ordered = sorted(answer.milliseconds for answer in answers)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)]


def busy_doors(folder: Path, clock: Callable[[], float] = time.monotonic) -> list[Busy]:
    """The doors of this machine that live; what cannot be read is none."""
    doors = []
    with suppress(OSError):
        for path in folder.glob("*.json"):
            with suppress(OSError, ValidationError):
                busy = Busy.model_validate_json(read_plain(path, _MOST_BYTES))
                if busy.machine == this_machine() and 0 <= clock() - busy.at <= ALIVE:
                    doors.append(busy)
    return doors
