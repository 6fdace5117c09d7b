"""A directory as a list of files and digests: what an artifact id and its signature speak of.

The directory may hold regular files with plain names and folders that are not empty, nothing else. A symbolic link, a
device, an empty folder or a name that a shell or ``sha256sum`` would read differently is refused, so two tools cannot
disagree about the content. File modes and times are not content: they do not survive every file system, and no
identity depends on them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput

SUMS_FILE = "SHA256SUMS"
SIGNATURE_FILE = "model.sig"

PLAIN_NAME = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
"""A file's or folder's name as an artifact may hold it."""

_HASHING_THREADS = 4


class Entry(NamedTuple):
    """One file of a directory."""

    name: str
    """Path relative to the directory, ``/``-separated."""
    sha256: str
    """64 hex digits."""
    bytes: int
    """Size."""


def list_files(directory: Path) -> list[tuple[str, int]]:
    """Name and size in bytes of every file except the directory's own `SIGNATURE_FILE`, sorted by name.

    Raises:
        InvalidInput: ``missing-directory``.
        IntegrityFailure: ``unsafe-entry``, naming the symbolic link, special file, empty folder or unsafe name.
        InfrastructureFailure: ``unreadable`` for a folder that cannot be read.
    """
    if not directory.is_dir():
        raise InvalidInput(
            "missing-directory", f"{directory} is not a folder.", "Name the artifact's folder.", path=str(directory)
        )
    return sorted(entry for entry in _walk(directory, "") if entry[0] != SIGNATURE_FILE)


def measure(directory: Path) -> list[Entry]:
    """Every file except `SIGNATURE_FILE`, hashed once (several at a time), sorted by name.

    Raises:
        InvalidInput, IntegrityFailure, InfrastructureFailure: as `list_files`.
    """
    largest_first = sorted(list_files(directory), key=lambda file: -file[1])
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        return sorted(pool.map(lambda file: _hash_file(directory, file[0]), largest_first))


def digests(entries: Iterable[Entry]) -> dict[str, str]:
    """Name to SHA-256 (hex)."""
    return {entry.name: entry.sha256 for entry in entries}


def sums(files: Mapping[str, str]) -> bytes:
    """``SHA256SUMS`` over the files (name to hex digest), itself left out: sorted, as ``sha256sum -c`` reads it."""
    return "".join(f"{files[name]}  {name}\n" for name in sorted(files) if name != SUMS_FILE).encode("ascii")


def compare(expected: Mapping[str, str], actual: Mapping[str, str], promise: str) -> None:
    """Refuse any difference between what was promised and what is there.

    Args:
        expected: Name to SHA-256 (hex) as promised.
        actual: Name to SHA-256 (hex) as measured.
        promise: What makes the promise (``the signature``), for the message.

    Raises:
        IntegrityFailure: ``file-added``, ``file-missing`` or ``file-changed``, naming the first such file in order of
            name.
    """
    for name in sorted(expected.keys() | actual.keys()):
        if name not in expected:
            code, message = "file-added", f"{name} is not listed by {promise}."
        elif name not in actual:
            code, message = "file-missing", f"{name} is listed by {promise} but is not there."
        elif expected[name] != actual[name]:
            code, message = "file-changed", f"{name} is not the file that {promise} lists."
        else:
            continue
        raise IntegrityFailure(code, message, "Fetch the artifact again from a store that you trust.", file=name)


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file so that a reader, or a rerun after a crash, sees the old content or the new, never a part.

    Of several writers, in whatever process, one writes after the other. A link at the path is replaced, and one at that
    of the temporary file beside it is an error; none is followed.

    Args:
        path: The file.
        data: All of it.
        mode: Its permissions, less what the umask takes away, from the first byte on.

    Raises:
        OSError: what the file system said.
    """
    part = path.with_name(f".{path.name}.partial")
    with os.fdopen(_open_alone(part, mode), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def _open_alone(part: Path, mode: int) -> int:
    """The temporary file, empty, with a lock that ends when it is closed.

    Whoever has waited for the lock may hold what is the other writer's finished file by now, and opens it anew. Where
    the file system knows no locks, writers are on their own.
    """
    while True:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, mode)
        try:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            mine = os.fstat(handle)
            with suppress(FileNotFoundError):
                if os.path.samestat(mine, os.stat(part, follow_symlinks=False)):
                    os.ftruncate(handle, 0)
                    os.fchmod(handle, mine.st_mode & mode)
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def clear_partials(directory: Path) -> None:
    """Remove what a killed `write_atomically` has left in a directory, and nothing that is being written."""
    for part in directory.glob(".*.partial"):
        if part.is_symlink() or not part.is_file():
            part.unlink(missing_ok=True)
            continue
        with suppress(FileNotFoundError, BlockingIOError), part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make names that were added to or removed from a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise _unreadable(prefix or folder.name, error) from error
    if prefix and not entries:
        raise _unsafe(prefix.rstrip("/"), "an empty folder")
    for entry in entries:
        name = prefix + entry.name
        if not re.fullmatch(PLAIN_NAME, entry.name):
            raise _unsafe(name, "a name outside letters, digits and . _ + -, or a hidden file")
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, name + "/")
        elif entry.is_file(follow_symlinks=False):
            yield name, entry.stat(follow_symlinks=False).st_size
        else:
            raise _unsafe(name, "a symbolic link or a special file")


def _hash_file(directory: Path, name: str) -> Entry:
    try:
        handle = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            return Entry(name, checksum, os.fstat(handle).st_size)
    except OSError as error:
        raise _unreadable(name, error) from error


def _unsafe(name: str, problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "unsafe-entry",
        f"{name!a} is {problem}; an artifact holds plain regular files only.",
        "Remove it, or put a regular file with a plain name in its place.",
        file=ascii(name)[1:-1],
    )


def _unreadable(name: str, error: OSError) -> InfrastructureFailure:
    return InfrastructureFailure(
        "unreadable", f"{name} cannot be read: {error.strerror}.", "Check the permissions and the disk.", file=name
    )
