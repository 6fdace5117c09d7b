"""Names of files inside a repository: relative, '/'-separated, and never out of it."""

from __future__ import annotations

from modelsmith.schema.errors import InvalidInput


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


def folder(prefix: str) -> str:
    """A folder's path without its trailing slash; empty for the root.

    Raises:
        InvalidInput: as `checked`.
    """
    bare = prefix.removesuffix("/")
    return checked(bare) if bare else ""
