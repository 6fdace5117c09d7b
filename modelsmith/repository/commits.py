"""What git says of a commit, and of a file that one brings."""

from __future__ import annotations

from typing import NamedTuple


class Commit(NamedTuple):
    """One commit of a log."""

    id: str
    parents: tuple[str, ...]
    tree: str
    subject: str


class AddedFile(NamedTuple):
    """A file that a commit brings in this form to this place."""

    commit: str
    path: str
    mode: str
    blob: str
