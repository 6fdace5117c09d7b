"""What a change holds, for who must decide about it: kinds and sizes of its paths, and its text, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from modelsmith.repository.git import Git
from modelsmith.repository.listing import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK
from modelsmith.schema.pull import Change, ChangedPath

FILE_BYTES = 128 * 1024
"""Largest file, before and after together, whose lines are shown."""
TEXT_BYTES = 1024 * 1024
"""Bytes of text that are shown of all files together, at most."""
DIFF_LINES = 2000
LINE_LETTERS = 1000

ABSENT = "000000"
_MODES = {REGULAR: "file", EXECUTABLE: "executable", SYMLINK: "link", SUBMODULE: "submodule"}

Kind = Literal["added", "changed", "removed"]


class ChangedFile(NamedTuple):
    """One path of a change."""

    path: str
    kind: Kind
    old: str
    """What stood there: ``file``, ``executable``, ``link``, ``submodule``; empty when nothing did."""
    new: str
    old_bytes: int | None
    """Size before; None where there was nothing with a size."""
    new_bytes: int | None


class Difference(NamedTuple):
    """The text of a change as a unified diff, and in sentences what of it is not there."""

    lines: tuple[str, ...]
    left_out: tuple[str, ...]


def changed_files(git: Git, change: Change) -> tuple[ChangedFile, ...]:
    """Kind and size of every path."""
    sizes = git.blob_sizes([blob for path in change.paths for blob in (path.old_blob, path.new_blob)])
    return tuple(
        ChangedFile(
            path.path, _kind(path), _mode_name(path.old_mode), _mode_name(path.new_mode),
            sizes.get(path.old_blob), sizes.get(path.new_blob),
        )
        for path in change.paths
    )  # fmt: skip


def difference(git: Git, old: str, new: str, change: Change) -> Difference:
    """The lines in which two trees differ, file by file in the order of the change.

    No attribute, driver or configuration of a repository has a say in what is shown. What is not UTF-8 text, or larger
    than the bounds above, is named instead, and so is each file whose lines are cut off.
    """
    paths, left_out = _readable(git, change)
    if not paths:
        return Difference((), tuple(left_out))
    out = git.run(
        "diff-tree", "-r", "-p", "--text", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color",
        "--ignore-submodules=none", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/",
        old, new, "--", *paths,
    )  # fmt: skip
    pieces = _pieces(out.decode("utf-8", "replace").removesuffix("\n").split("\n"), change, paths)
    lines: list[str] = []
    for path in paths:
        room = DIFF_LINES - len(lines)
        lines += pieces[path][:room]
        if len(pieces[path]) > room:
            left_out.append(f"{len(pieces[path]) - room} more lines: {path}")
    return Difference(tuple(_cut(line) for line in lines), tuple(left_out))


def _pieces(lines: Sequence[str], change: Change, paths: Sequence[str]) -> dict[str, list[str]]:
    """The lines of each file. git takes files by the bytes of their names, and gives two pieces of one that turned.

    No line of a file's own begins as the first of a piece does: each has its mark in front.
    """
    by_path = {path.path: path for path in change.paths if path.path in set(paths)}
    owners = (path for path in sorted(by_path, key=_bytes) for _ in range(2 if _turned(by_path[path]) else 1))
    pieces: dict[str, list[str]] = {path: [] for path in paths}
    piece: list[str] = []
    for line in lines:
        if line.startswith("diff --git "):
            piece = pieces[next(owners)]
        piece.append(line)
    return pieces


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _turned(path: ChangedPath) -> bool:
    """Whether what stands there is of another type now: file, link or submodule."""
    return ABSENT not in (path.old_mode, path.new_mode) and path.old_mode[:3] != path.new_mode[:3]


def _readable(git: Git, change: Change) -> tuple[list[str], list[str]]:
    """Paths whose lines are shown, and sentences about the others."""
    files = changed_files(git, change)
    candidates: list[ChangedPath] = []
    left_out: list[str] = []
    room = TEXT_BYTES
    for path, file in zip(change.paths, files, strict=True):
        size = (file.old_bytes or 0) + (file.new_bytes or 0)
        if size > FILE_BYTES or size > room:
            left_out.append(f"{size} bytes, too much to show: {path.path}")
            continue
        room -= size
        candidates.append(path)
    blobs = git.read_blobs([blob for path in candidates for blob in _blobs(path)])
    binary = {path.path for path in candidates if not all(_is_text(blobs[blob]) for blob in _blobs(path))}
    left_out += [f"binary: {path}" for path in sorted(binary)]
    paths = [path.path for path in candidates if path.path not in binary]
    hidden = {path.path for path in change.paths} - set(paths)
    above = {str(folder) for path in hidden for folder in PurePosixPath(path).parents}
    left_out += [
        f"a folder stands in its place, and not all of that is shown: {path}" for path in paths if path in above
    ]
    return [path for path in paths if path not in above], left_out


def _blobs(path: ChangedPath) -> Iterator[str]:
    """Its contents; a submodule has none."""
    for mode, blob in ((path.old_mode, path.old_blob), (path.new_mode, path.new_blob)):
        if mode not in (ABSENT, SUBMODULE):
            yield blob


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def _kind(path: ChangedPath) -> Kind:
    return "added" if path.old_mode == ABSENT else "removed" if path.new_mode == ABSENT else "changed"


def _mode_name(mode: str) -> str:
    return "" if mode == ABSENT else _MODES.get(mode, mode)


def _cut(line: str) -> str:
    surplus = len(line) - LINE_LETTERS
    return line if surplus <= 0 else f"{line[:LINE_LETTERS]} ... {surplus} more letters"
