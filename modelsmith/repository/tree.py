"""Read-only views of a repository's files: on disk, or in a commit. Both refuse links and whatever leaves the root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

from modelsmith.governance.reserved import KEPT_LOCALLY
from modelsmith.repository.git import Git
from modelsmith.repository.listing import EXECUTABLE, REGULAR, SYMLINK, Entry, Listing
from modelsmith.repository.paths import checked, folder
from modelsmith.repository.tree_listing import TreeListing
from modelsmith.schema.errors import InvalidInput


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
        """See `Tree`. Skips the folders of one machine (`KEPT_LOCALLY`), which no commit holds."""
        below = folder(prefix)
        if not below:
            return sorted(_walk(self.root, ""))
        mode = self._mode(below)
        if mode is None or any(part in KEPT_LOCALLY for part in below.split("/")):
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
            file = os.open(f"{self.root}/{path}", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
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

    def is_executable(self, path: str) -> bool:
        """Whether a file's owner may run it, which is all of a file's mode that git keeps. Raises as `read`."""
        mode = self._mode(checked(path))
        return mode is not None and bool(mode & stat.S_IXUSR)

    def link(self, path: str) -> bytes | None:
        """Where a symbolic link leads, as it is written; None for anything else. Raises as `read`."""
        mode = self._mode(checked(path))
        if mode is None or not stat.S_ISLNK(mode):
            return None
        return os.readlink(os.fsencode(f"{self.root}/{path}"))

    def _mode(self, path: str) -> int | None:
        """Mode of what stands at the path; None when nothing does.

        Raises:
            InvalidInput: ``not-a-file`` when a folder on the way is a link.
        """
        root = path_so_far = str(self.root)
        *parents, name = path.split("/")
        try:
            for parent in parents:
                path_so_far = f"{path_so_far}/{parent}"
                if stat.S_ISLNK(os.lstat(path_so_far).st_mode):
                    raise _not_a_file(path, f"reached through the symbolic link {path_so_far.removeprefix(f'{root}/')}")
            return os.lstat(f"{path_so_far}/{name}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InvalidInput(
                "unreadable-file",
                f"{path}: {error.strerror}",
                "Use a shorter name.",
                path=path,
                reason=error.strerror,
            ) from None


class Revision:
    """Files as they are in one commit, read from the object database."""

    def __init__(self, git: Git, rev: str) -> None:
        """Look the revision up; a tree (of a merge that is not committed yet) serves as well as a commit.

        Raises:
            InvalidInput: ``bad-revision``; ``no-commit`` when the repository has none at all.
        """
        commit = git.rev(rev) or git.tree(rev)
        if commit is None:
            raise unknown_revision(git, rev)
        self.git = git
        self.commit: str = commit
        """Id of the commit, or of the tree when only a tree was named."""

    @cached_property
    def _listing(self) -> Listing:
        return self.git.listing(self.commit)

    def entries(self, prefix: str = "") -> list[tuple[str, Entry]]:
        """Path, mode and object id of every file at or below the folder ``prefix``, sorted: what it holds, unread."""
        return sorted(self._listing.below(folder(prefix)).items())

    def paths(self, prefix: str = "") -> list[str]:
        """See `Tree`."""
        return sorted(self._listing.below(folder(prefix)))

    def divide(self, top: str, depth: int) -> tuple[dict[str, str], list[str]] | None:
        """Folders ``depth`` below a folder, with the ids of their trees, and the files that lie nearer; both unsorted.

        None where the tree is listed file by file, so that no ids of folders are known.
        """
        return self._listing.divide(top, depth) if isinstance(self._listing, TreeListing) else None

    def folder_id(self, folder: str) -> str | None:
        """Id of the tree that git has at a folder; None when there is no such folder."""
        return self.git.folder(self.commit, checked(folder))

    def names(self, folder: str) -> Iterable[str]:
        """Names in one folder, the root when empty, those of folders included."""
        return self._listing.names(folder)

    def read(self, path: str) -> bytes:
        """See `Tree`."""
        return self.git.read_blob(self.blob(path))

    def exists(self, path: str) -> bool:
        """See `Tree`."""
        return self._listing.entry(checked(path)) is not None

    def blob(self, path: str) -> str:
        """Id of the file at a path. Raises as `read`."""
        entry = self._listing.entry(checked(path))
        if entry is None:
            raise _missing(path)
        mode, blob = entry
        if mode not in (REGULAR, EXECUTABLE):
            raise _not_a_file(path, "a symbolic link" if mode == SYMLINK else "a submodule")
        return blob


class MountedTree:
    """A tree shown at a folder: an eval set by the hash of its own tree, at the path where its loader looks."""

    def __init__(self, tree: Revision, folder: str) -> None:
        self._tree = tree
        self._prefix = folder + "/"

    def paths(self, prefix: str = "") -> list[str]:
        """See `Tree`."""
        below = folder(prefix)
        paths = (self._prefix + path for path in self._tree.paths())
        return [path for path in paths if not below or path == below or path.startswith(below + "/")]

    def read(self, path: str) -> bytes:
        """See `Tree`."""
        if not path.startswith(self._prefix):
            raise _missing(path)
        return self._tree.read(path.removeprefix(self._prefix))

    def exists(self, path: str) -> bool:
        """See `Tree`."""
        return path.startswith(self._prefix) and self._tree.exists(path.removeprefix(self._prefix))


class OverlaidTree:
    """A tree with files laid over it that nobody has written yet."""

    def __init__(self, tree: Tree, files: Mapping[str, bytes]) -> None:
        self._tree = tree
        self._files = files

    def paths(self, prefix: str = "") -> list[str]:
        """See `Tree`."""
        below = folder(prefix)
        drafted = {path for path in self._files if not below or path == below or path.startswith(below + "/")}
        return sorted({*self._tree.paths(prefix), *drafted})

    def read(self, path: str) -> bytes:
        """See `Tree`."""
        return self._files[path] if path in self._files else self._tree.read(path)

    def exists(self, path: str) -> bool:
        """See `Tree`."""
        return path in self._files or self._tree.exists(path)


def read_each(tree: Tree, paths: Iterable[str]) -> tuple[dict[str, bytes], dict[str, InvalidInput]]:
    """Contents by path, and why the others cannot be read. One git process for all of them when it is a `Revision`."""
    blobs: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    refused: dict[str, InvalidInput] = {}
    for path in paths:
        try:
            if isinstance(tree, Revision):
                blobs[path] = tree.blob(path)
            else:
                contents[path] = tree.read(path)
        except InvalidInput as error:
            refused[path] = error
    if isinstance(tree, Revision):
        blobs_read = tree.git.read_blobs(list(blobs.values()))
        contents = {path: blobs_read[blob] for path, blob in blobs.items()}
    return contents, refused


def _walk(top: Path, prefix: str) -> Iterator[str]:
    """Every file below a folder.

    Raises:
        InvalidInput: ``unreadable-folder``, also for one whose path is longer than this system takes.
    """
    waiting = [prefix]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(top / below.removeprefix(prefix).lstrip("/")) as entries:
                names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            place = below if len(below) <= 120 else f"{below[:60]}...{below[-57:]}"
            raise InvalidInput(
                "unreadable-folder",
                f"The folder {place!a} cannot be read: {error.strerror}",
                "Make it readable for this user, or shorten its path.",
                path=below,
            ) from None
        for name, is_folder in names:
            path = f"{below}/{name}" if below else name
            if is_folder and name not in KEPT_LOCALLY:
                waiting.append(path)
            elif not is_folder and name not in KEPT_LOCALLY:
                yield path


def unknown_revision(git: Git, rev: str) -> InvalidInput:
    """The failure for a name that is not a commit: ``no-commit`` when there is none at all, else ``bad-revision``."""
    if not git.text("rev-list", "--all", "--max-count=1"):
        return InvalidInput(
            "no-commit",
            "The repository has no commit yet",
            "Make one: `git add . && git commit -m 'First commit'`.",
        )
    return InvalidInput("bad-revision", f"{rev!r} does not name a commit", "Name a branch, tag or commit id.", rev=rev)


def _missing(path: str) -> InvalidInput:
    return InvalidInput("missing-file", f"There is no file {path}", "Add it, or correct the path.", path=path)


def _not_a_file(path: str, problem: str) -> InvalidInput:
    return InvalidInput("not-a-file", f"{path} is {problem}", "Put a regular file in its place.", path=path)
