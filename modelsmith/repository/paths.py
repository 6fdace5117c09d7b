"""Names of files inside a repository (relative, '/'-separated, and never out of it), and paths that people give."""

from __future__ import annotations

import os
from pathlib import Path

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.system import require_text


def checked(path: str) -> str:
    """The path itself, when it is relative, '/'-separated and names something inside the repository.

    Raises:
        InvalidInput: ``outside-repository`` for absolute paths, ``..``, empty parts, backslashes, NUL and ``.git``.
    """
    parts = path.split("/")
    if "\\" in path or "\0" in path or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise InvalidInput(
            "outside-repository",
            f"{path!r} does not name a file inside the repository",
            "Name it relative to the repository's root, with '/' and without '..'.",
            path=path,
        )
    return path


def utf8(path: bytes) -> str:
    """A path as text. Raises InvalidInput (``bad-path``) when it is not UTF-8."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(
            "bad-path",
            f"The path {path!r} is not UTF-8",
            "Rename the file with plain characters, then commit again.",
            path=str(path),
        ) from None


def folder(prefix: str) -> str:
    """A folder's path without its trailing slash; empty for the root.

    Raises:
        InvalidInput: as `checked`.
    """
    bare = prefix.removesuffix("/")
    return checked(bare) if bare else ""


def refuse_links(root: Path, path: Path) -> None:
    """Refuse to write to a path through a link in the work tree at ``root``: a commit may have put it there.

    A path outside the work tree is its user's own affair.

    Raises:
        InvalidInput: ``link-in-the-way`` for a link at the path itself or in place of a folder on the way.
    """
    top, full = root.resolve(), Path.cwd() / path
    for place in (full, *full.parents):
        if place.is_symlink() and place.parent.resolve().is_relative_to(top):
            raise InvalidInput(
                "link-in-the-way",
                f"{place} is a symbolic link in the work tree, so what is written to {path} would land elsewhere",
                "Remove the link, or name another place.",
                path=str(place),
            )


def place(path: Path, base: Path) -> Path:
    """The place that somebody named: ``~`` is a home, and a relative path begins at ``base``.

    Raises:
        InvalidInput: ``unknown-home`` for a user who has none here; ``not-utf8``.
    """
    require_text(str(path))
    try:
        return base / path.expanduser()
    except RuntimeError:
        raise InvalidInput(
            "unknown-home", f"There is no home folder for {path.parts[0]}", "Write the path without ~."
        ) from None


def inside(root: Path, inner: Path) -> str:
    """What the repository at ``root`` calls the place: its path from there, empty for the root itself.

    Raises:
        InvalidInput: ``outside-repository``.
    """
    path = Path(os.path.normpath(root / inner))
    if not path.is_relative_to(root):
        raise InvalidInput(
            "outside-repository",
            f"{inner} does not lie in {root}",
            "Name a file or folder of the repository.",
            given=str(inner),
            root=str(root),
        )
    return "" if path == root else path.relative_to(root).as_posix()
