"""Read-only views of a repository's files: on disk, or in a commit. Both refuse links and whatever leaves the root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from modelsmith.repository.git import EXECUTABLE, REGULAR, Git
from modelsmith.repository.paths import checked, folder
from modelsmith.schema.errors import InvalidInput

IGNORED = frozenset({".git", ".iterate", ".venv"})
"""Folders of a work tree that are no part of the repository's content."""


class Tree(Protocol):
    """A read-only view of a repository's files. Links and submodules are listed, and refused when read."""

    def paths(self, prefix: str = "") -> list[str]:
        """Sorted paths of every file at or below the folder ``prefix``; '/'-separated, relative to the root."""
        ...

    def read(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            InvalidInput: ``missing-file``, ``not-a-file`` for links, folders, submodules and devices,
                ``outside-repository`` for a path that leaves the root.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether the tree holds something other than a folder at that path."""
        ...


class WorkTree:
    """Files as they are on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def paths(self, prefix: str = "") -> list[str]:
        """See `Tree`. Skips ``.git``, ``.iterate`` and ``.venv``."""
        below = folder(prefix)
        if not below:
            return sorted(_walk(self.root, ""))
        mode = self._mode(below)
        if mode is None or any(part in IGNORED for part in below.split("/")):
            return []
        return sorted(_walk(self.root / below, below)) if stat.S_ISDIR(mode) else [below]

    def read(self, path: str) -> bytes:
        """See `Tree`."""
        mode = self._mode(checked(path))
        if mode is None:
            raise _missing(path)
        if not stat.S_ISREG(mode):
            raise _not_a_file(path, "a symbolic link" if stat.S_ISLNK(mode) else "no regular file")
        try:
            file = os.open(self.root / path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(file, "rb") as stream:
                return stream.read()
        except OSError as error:
            raise InvalidInput(
                "unreadable-file", f"{path}: {error.strerror}", "Make the file readable for this user.", path=path
            ) from None

    def exists(self, path: str) -> bool:
        """See `Tree`."""
        mode = self._mode(checked(path))
        return mode is not None and not stat.S_ISDIR(mode)

    def _mode(self, path: str) -> int | None:
        """Mode of what stands at the path; None when nothing does.

        Raises:
            InvalidInput: ``not-a-file`` when a folder on the way is a link.
        """
        here = self.root
        *parents, name = path.split("/")
        try:
            for parent in parents:
                here = here / parent
                if stat.S_ISLNK(here.lstat().st_mode):
                    raise _not_a_file(path, f"reached through the symbolic link {here.relative_to(self.root)}")
            return (here / name).lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InvalidInput("unreadable-file", f"{path}: {error.strerror}", "Use a shorter name.") from None


class Revision:
    """Files as they are in one commit, read from the object database."""

    def __init__(self, git: Git, rev: str) -> None:
        commit = git.rev(rev)
        if commit is None and not git.text("rev-list", "--all", "--max-count=1"):
            raise InvalidInput(
                "no-commit",
                "The repository has no commit yet",
                "Make one: `git add . && git commit -m 'First commit'`.",
            )
        if commit is None:
            raise InvalidInput("bad-revision", f"{rev!r} does not name a commit", "Name a branch, tag or commit id.")
        self.git = git
        self.commit: str = commit

    @cached_property
    def entries(self) -> dict[str, tuple[str, str]]:
        """Path to (mode, object id) of every entry."""
        return self.git.list_tree(self.commit)

    def paths(self, prefix: str = "") -> list[str]:
        """See `Tree`."""
        below = folder(prefix)
        return sorted(p for p in self.entries if not below or p == below or p.startswith(f"{below}/"))

    def read(self, path: str) -> bytes:
        """See `Tree`."""
        return self.git.read_blob(self._blob(path))

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Contents by path, read by a single process."""
        blobs = {path: self._blob(path) for path in paths}
        contents = self.git.read_blobs(list(blobs.values()))
        return {path: contents[blob] for path, blob in blobs.items()}

    def exists(self, path: str) -> bool:
        """See `Tree`."""
        return checked(path) in self.entries

    def _blob(self, path: str) -> str:
        mode, blob = self.entries.get(checked(path), ("", ""))
        if not mode:
            raise _missing(path)
        if mode not in (REGULAR, EXECUTABLE):
            raise _not_a_file(path, "a symbolic link or submodule")
        return blob


def read_many(tree: Tree, paths: Iterable[str]) -> dict[str, bytes]:
    """Contents by path; one git process for all of them when the tree is a `Revision`."""
    wanted = list(paths)
    return tree.read_many(wanted) if isinstance(tree, Revision) else {path: tree.read(path) for path in wanted}


def _walk(top: Path, prefix: str) -> Iterator[str]:
    with os.scandir(top) as entries:
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in IGNORED:
                    yield from _walk(Path(entry.path), path)
            elif entry.name not in IGNORED:
                yield path


def _missing(path: str) -> InvalidInput:
    return InvalidInput("missing-file", f"There is no file {path}", "Add it, or correct the path.", path=path)


def _not_a_file(path: str, what: str) -> InvalidInput:
    return InvalidInput("not-a-file", f"{path} is {what}", "Put a regular file in its place.", path=path)
