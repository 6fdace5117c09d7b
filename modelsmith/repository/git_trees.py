"""New trees in the object database, from files and the tree that they change; work tree and index are never touched."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from modelsmith.repository.git_process import GitProcess, plain
from modelsmith.repository.listing import EXECUTABLE, REGULAR, Entry
from modelsmith.repository.paths import checked
from modelsmith.schema.errors import InvalidInput


def build_tree(
    git: GitProcess, parent: str | None, before: Mapping[str, Entry], files: Mapping[str, bytes | None]
) -> str:
    """Id of ``parent``'s tree, which lists ``before``, with ``files`` written into it; None as content removes one.

    Raises:
        InvalidInput: ``outside-repository``, ``path-conflict``.
    """
    contents = {checked(path): data for path, data in files.items() if data is not None}
    removed = [checked(path) for path, data in files.items() if data is None]
    with tempfile.TemporaryDirectory(prefix="modelsmith-") as scratch:
        env = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        if parent:
            git.run("read-tree", plain(parent), env=env)
        _refuse_overlaps((before.keys() - set(removed)) | contents.keys())
        lines = [f"0 {before[path][1]}\t{path}" for path in removed if path in before]
        for path, oid in zip(contents, _write_blobs(git, list(contents.values()), Path(scratch)), strict=True):
            mode = EXECUTABLE if path in before and before[path][0] == EXECUTABLE else REGULAR
            lines.append(f"{mode} {oid}\t{path}")
        git.run("update-index", "-z", "--index-info", input="".join(f"{x}\0" for x in lines).encode(), env=env)
        return git.text("write-tree", env=env)


def _write_blobs(git: GitProcess, contents: Sequence[bytes], scratch: Path) -> list[str]:
    """Blob ids of contents, written by a single process."""
    names = []
    for number, data in enumerate(contents):
        file = scratch / str(number)
        file.write_bytes(data)
        names.append(f"{file}\n")
    out = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", input="".join(names).encode())
    return out.decode().split()


def _refuse_overlaps(paths: Set[str]) -> None:
    for path in paths:
        parts = path.split("/")
        above = next((top for end in range(1, len(parts)) if (top := "/".join(parts[:end])) in paths), None)
        if above:
            raise InvalidInput(
                "path-conflict",
                f"{path} needs a folder where the file {above} stands",
                f"Remove {above} in one go.",
                path=str(path),
                above=above,
            )
