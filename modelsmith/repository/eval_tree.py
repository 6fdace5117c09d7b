"""The git tree that an eval set on disk is: named only when it holds exactly the files that were read."""

from __future__ import annotations

import hashlib
from typing import Final

from modelsmith.governance.shape import ABSENT, GOVERNED_FOLDERS
from modelsmith.repository.git import Git
from modelsmith.repository.listing import EXECUTABLE, REGULAR, SYMLINK
from modelsmith.repository.tree import WorkTree, read_each
from modelsmith.schema.catalog import kind_of
from modelsmith.schema.errors import InvalidInput

UNCOMMITTED: Final = "uncommitted"
"""What stands for the tree of files that the last commit does not hold."""


def eval_tree(git: Git, files: WorkTree, folder: str) -> tuple[str, tuple[str, ...]]:
    """Tree of the folder in the last commit, or `UNCOMMITTED` and the governed files that differ.

    Contents are compared, not what ``git status`` says: that is silent about a file that somebody's gitignore hides,
    and about one that is marked as unchanged.
    """
    head = git.rev("HEAD")
    committed = {path: oid for path, (_, oid) in git.list_tree(head, folder).items()} if head else {}
    contents, refused = read_each(files, files.paths(folder))
    blobs = {path: blob_id(data, committed.get(path, "")) for path, data in contents.items()}
    differing = {path for path in committed.keys() | blobs.keys() if committed.get(path) != blobs.get(path)}
    governed = tuple(sorted(path for path in differing | refused.keys() if path in committed or kind_of(path)))
    if governed or not committed:
        return UNCOMMITTED, governed
    return git.text("rev-parse", f"{head}:{folder}"), ()


def edited_paths(git: Git, files: WorkTree, commit: str, without: str | None = None) -> list[str]:
    """Sorted paths whose file on disk is not the commit's: gone, changed, or new in a governed folder.

    Contents are compared, where links lead, and whether a file can be run; no filter of the clone's settings runs. As
    git does, it believes ``core.fileMode`` and ``core.symlinks`` that this disk keeps no such thing. A new file
    elsewhere is nobody's input. Nothing in the folder ``without`` is looked at.
    """
    listed = {path: entry for path, entry in git.list_tree(commit).items() if path.partition("/")[0] != without}
    runs, links = ("false" not in git.settings(f"core.{name}")[-1:] for name in ("filemode", "symlinks"))

    def differs(path: str, mode: str, oid: str) -> bool:
        if mode == SYMLINK:
            return not (_leads(files, path, oid) or (not links and _holds(files, path, oid)))
        if mode not in (REGULAR, EXECUTABLE):
            return False
        return not _holds(files, path, oid) or (runs and files.is_executable(path) != (mode == EXECUTABLE))

    changed = [path for path, entry in listed.items() if differs(path, *entry)]
    folders = {*GOVERNED_FOLDERS, ".github"} - {without}
    added = [path for folder in folders for path in files.paths(folder) if path not in listed]
    return sorted([*changed, *added])


def overwritten(git: Git, files: WorkTree, old: str | None, new: str) -> bool:
    """Whether the work tree, on its way from ``old`` to ``new``, would lose a file that is not the commit's.

    Contents are compared where the two differ, as in `edited_paths`; any other file stays as it is.
    """
    if old is None:
        return any(files.exists(path) for path in git.list_tree(new))
    return any(
        files.exists(path.path) or bool(files.paths(path.path))
        if path.old_mode == ABSENT
        else not _holds(files, path.path, path.old_blob)
        for path in git.change(old, new).paths
    )


def _holds(files: WorkTree, path: str, oid: str) -> bool:
    try:
        return blob_id(files.read(path), oid) == oid
    except InvalidInput:
        return False


def _leads(files: WorkTree, path: str, oid: str) -> bool:
    """Whether a link leads where the commit's does, which is the content of its blob."""
    try:
        target = files.link(path)
    except InvalidInput:
        return False
    return target is not None and blob_id(target, oid) == oid


def blob_id(data: bytes, like: str) -> str:
    """Git's id of the content, in the form of another id of the same repository."""
    hashed = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return hashed(b"blob %d\0" % len(data) + data).hexdigest()
