"""Refs as git keeps them in files, read without a git process, which takes longer to start than the files to read.

The format is that of gitrepository-layout(5) and git-pack-refs(1): one file for each loose ref, beneath ``refs``, and
``packed-refs`` for those that were packed; a loose one counts before a packed one of its name. Whatever is not plainly
so, git is asked about: this reads no more of git's rules than the common case needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelsmith.schema.plain_file import read_plain

_LOOSE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\n")
_PACKED = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) (refs/[^\n]+)")
_COMPONENT = re.compile(r"(?!.*(\.\.|\.lock$|\.$))[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A part of a name that git takes for one on every system; it takes others, too."""
_MOST_FILES = 1_000
_MOST_BYTES = 1 << 20
"""Where there is more to read, git is as fast."""


class _AskGit(Exception):
    """Something is not as this module knows it."""


def stored_refs(place: Path, names: Sequence[str]) -> dict[str, str] | None:
    """Full name to object of the refs that are named, in the order of their names; None where only git can tell.

    Args:
        place: The folder in which git keeps the repository.
        names: Full names; one that ends in a slash stands for all below it.
    """
    try:
        _require_plain(place)
        # Loose ones first: one that git packs meanwhile is found among the packed.
        loose = dict(_loose(place, names))
        refs = _packed(place, names) | loose
    except (OSError, _AskGit):
        return None
    return dict(sorted(refs.items()))


def is_named(ref: str, names: Sequence[str]) -> bool:
    """Whether a ref is named, itself or by what it lies below."""
    return any(ref.startswith(name) if name.endswith("/") else ref == name for name in names)


def _require_plain(place: Path) -> None:
    """This user's own repository with refs in files; git says of another one why it does not read it."""
    elsewhere = (place / "reftable", place / "commondir")
    folders = (place, place.parent) if place.name == ".git" else (place,)
    if any(map(os.path.lexists, elsewhere)) or {folder.stat().st_uid for folder in folders} != {os.geteuid()}:
        raise _AskGit
    if b"refstorage" in _read(place / "config").lower():
        raise _AskGit


def _loose(place: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names are taken from the folders as they are listed: some systems find a file under other spellings as well."""
    folders, files = ["refs"], 0
    while folders:
        folder = folders.pop()
        with os.scandir(place / folder) as entries:
            for entry in entries:
                ref = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    below = f"{ref}/"
                    if any(name.startswith(below) or (name.endswith("/") and below.startswith(name)) for name in names):
                        folders.append(ref)
                elif entry.is_symlink() and any(name.startswith(f"{ref}/") for name in names):
                    raise _AskGit  # a folder of refs, to git
                elif is_named(ref, names) and not (
                    entry.name.endswith(".lock") and entry.is_file(follow_symlinks=False)
                ):
                    files += 1
                    match = _LOOSE.fullmatch(_read(entry.path)) if entry.is_file(follow_symlinks=False) else None
                    if match is None or files > _MOST_FILES:
                        raise _AskGit
                    yield _plain(ref), _whole(match[1])


def _packed(place: Path, names: Sequence[str]) -> dict[str, str]:
    file = place / "packed-refs"
    refs: dict[str, str] = {}
    for line in _read(file).split(b"\n") if os.path.lexists(file) else ():
        if not line or line.startswith((b"#", b"^")):
            continue
        match = _PACKED.fullmatch(line)
        if match is None:
            raise _AskGit
        if is_named(ref := os.fsdecode(match[2]), names):
            refs[_plain(ref)] = _whole(match[1])
    return refs


def _plain(ref: str) -> str:
    if not all(map(_COMPONENT.fullmatch, ref.split("/"))):
        raise _AskGit
    return ref


def _whole(oid: bytes) -> str:
    if not oid.strip(b"0"):
        raise _AskGit
    return oid.decode()


def _read(file: str | Path) -> bytes:
    data = read_plain(file, _MOST_BYTES)
    if len(data) == _MOST_BYTES:
        raise _AskGit
    return data
