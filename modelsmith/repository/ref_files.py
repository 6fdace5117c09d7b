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
"""Of a file: where there is more to read, git is as fast."""
_MOST_PACKED = 1 << 24
"""Bytes of the packed refs that are read: some 200,000 of them."""
_SIMPLE = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/"
"""Signs of which each name is one for `_COMPONENT`, where no part of it is empty or begins with a dash."""


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
    data = _read(file, _MOST_PACKED) if os.path.lexists(file) else b""
    quickly = _at_once(data, names)
    return _one_by_one(data, names) if quickly is None else quickly


def _at_once(data: bytes, names: Sequence[str]) -> dict[str, str] | None:
    """What `_one_by_one` finds, where all lines are of the usual form and the names simple; None where not all are.

    A forge has a ref for each pull request that there ever was, and each push reads them.
    """
    lines = [line for line in data.split(b"\n") if line and line[:1] not in (b"#", b"^")]
    width = lines[0].find(b" ") if lines else 40
    ids, refs = [line[:width] for line in lines], [line[width + 1 :] for line in lines]
    same = width in (40, 64) and {*map(len, ids)} <= {width} and {line[width : width + 1] for line in lines} <= {b" "}
    if not same or b"".join(ids).translate(None, b"0123456789abcdef"):
        return None
    exact, below = {os.fsencode(name) for name in names}, tuple(os.fsencode(name) for name in names if name[-1:] == "/")
    pairs = [(ref, oid) for ref, oid in zip(refs, ids, strict=True) if ref.startswith(below) or ref in exact]
    ours, joined = dict(pairs), b"\n".join(ref for ref, _ in pairs)
    odd = joined.translate(None, _SIMPLE + b"\n") or any(sign in joined for sign in (b"//", b"/-", b"/\n"))
    if (
        odd
        or len(ours) < len(pairs)
        or joined.endswith(b"/")
        or b"0" * width in ours.values()
        or not all(ref.startswith(b"refs/") for ref in refs)
    ):
        return None
    return {ref.decode(): oid.decode() for ref, oid in ours.items()}


def _one_by_one(data: bytes, names: Sequence[str]) -> dict[str, str]:
    refs: dict[str, str] = {}
    for line in data.split(b"\n"):
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


def _read(file: str | Path, most: int = _MOST_BYTES) -> bytes:
    data = read_plain(file, most)
    if len(data) == most:
        raise _AskGit
    return data
