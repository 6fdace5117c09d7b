"""A job's folder as two machines copy it: plain files under plain names, and nothing written through a link."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import BinaryIO, Final

from modelsmith.fleet.folder import GIVEN, LONE, PUT_AWAY, STAYS
from modelsmith.fleet.remote.wire import Listed
from modelsmith.schema.canonical import file_digest

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}){0,5}", re.ASCII)
MOST_FILES: Final = 20_000
PART: Final = ".part"
"""Of a file that is under way, in the job's folder."""


class OddPlaceError(Exception):
    """A name that no job makes, or a place that is a link; nothing is written there."""


def is_given(name: str) -> bool:
    """Whether the file is the submitter's to write: nothing that a host says of it is taken."""
    return _top(name) in GIVEN


def stays(name: str) -> bool:
    """Whether the file is not a host's business."""
    return _top(name) in STAYS or not _PLAIN.fullmatch(name)


def listed(folder: Path) -> Listed:
    """Digest of every plain file that travels, by its path; hidden ones are nobody's business but this machine's."""
    files: dict[str, str] = {}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        with suppress(FileNotFoundError):  # a worker that was left behind may still put things away
            if S_ISREG(path.lstat().st_mode) and not stays(name):
                files[name] = file_digest(path)
        if len(files) > MOST_FILES:
            raise OddPlaceError(f"more than {MOST_FILES} files")
    return Listed(files=files)


def names(folder: Path) -> list[str]:
    """Path of every plain file in it, hidden ones aside."""
    return [path.relative_to(folder).as_posix() for path in _walk(folder) if S_ISREG(path.lstat().st_mode)]


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    for path in entries:
        if not path.name.startswith("."):
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from _walk(path)


def place_of(folder: Path, name: str) -> Path:
    """Where a file of this name lies.

    Raises:
        OddPlaceError: it is not a plain name, a folder in place of a file that is read by its name (or the other way
            round), or a link or a file stands on the way.
    """
    if not _PLAIN.fullmatch(name) or (_top(name) in LONE and "/" in name) or name.lower() == PUT_AWAY:
        raise OddPlaceError(f"{name[:100]!a} is no name of a job's file")
    place = folder
    for part in PurePosixPath(name).parts[:-1]:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise OddPlaceError(f"{name[:100]!a} would be written through something else")
    return folder / name


@contextmanager
def writing(folder: Path, name: str) -> Iterator[BinaryIO]:
    """A file that takes its name's place when it is whole.

    Raises:
        OddPlaceError: as `place_of`.
        OSError: the file system's.
    """
    place, part = place_of(folder, name), folder / PART
    with suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def remove(folder: Path, name: str) -> None:
    """Take a file away, and folders that are empty then.

    Raises:
        OddPlaceError: as `place_of`.
    """
    place = place_of(folder, name)
    with suppress(FileNotFoundError):
        place.unlink()
    for parent in PurePosixPath(name).parents:
        if parent != PurePosixPath("."):
            with suppress(OSError):
                (folder / parent).rmdir()


def _top(name: str) -> str:
    """The first part of a name; some file systems take ``JOB.JSON`` for ``job.json``."""
    return name.partition("/")[0].lower()
