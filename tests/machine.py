"""What the suite asks of the machine, so that it need not wait for it."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RAM_DISK = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that must be free on the RAM disk; the suite has been seen to use 0.6 GB, most of it for the real model."""
MEMORY = 8 << 30
"""Bytes of memory that must be available besides."""


def prefer_ram_disk() -> None:
    """Temporary files, here and in every process started from here, lie on a RAM disk that has room.

    The suite makes some hundred thousand small files, which disks and their journals take minutes for. Whoever sets
    ``TMPDIR`` has chosen already.
    """
    if "TMPDIR" not in os.environ and _has_room():
        os.environ["TMPDIR"] = str(RAM_DISK)
        tempfile.tempdir = None


def _has_room() -> bool:
    try:
        disk = os.statvfs(RAM_DISK)
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return False
    runs_programs = not disk.f_flag & os.ST_NOEXEC
    free, available = disk.f_bavail * disk.f_frsize, int(facts["MemAvailable"].split()[0]) << 10
    return runs_programs and os.access(RAM_DISK, os.W_OK) and free >= ROOM and available >= ROOM + MEMORY


def keep_bytecode() -> None:
    """Commands that tests start need not compile the product again each time."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@contextmanager
def without_looking_for_garbage() -> Iterator[None]:
    """What is made in here stays, and nobody looks for garbage among it, now or later; among the rest, less often.

    Modules and tests are imported in here: looking took 10 of 32 s of processor time. Libraries that tests import later
    stay, too, and looking through them again and again took a twelfth of the time of some rooms.
    """
    gc.disable()
    gc.set_threshold(10_000)
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def wait_without_spinning() -> None:
    """Threads of torch that have nothing to do sleep, here and in every process started from here.

    Else they turn in a loop for their share of a processor that another worker of the suite needs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def hurry_at_github() -> None:
    """Requests that change something do not wait for one another, in this process and its forks.

    GitHub asks for a second between two; the server of its shape that tests start has nobody to be spared.
    """
    from modelsmith.forges.github import rest

    rest.BETWEEN_WRITES = 0.0
