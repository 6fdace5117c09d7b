"""Lays a pack into a repository. A file that a person changed is never written over unless they say so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path, PurePosixPath
from typing import Literal

from modelsmith.operations.table import Role
from modelsmith.packs import Client
from modelsmith.packs.contents import files_of, server
from modelsmith.packs.settings import SETTINGS, read_text
from modelsmith.repository.paths import refuse_links
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InvalidInput
from modelsmith.signing.files import write_atomically


class Laid(Frozen):
    """One file of a pack, and what stands in its place."""

    path: str
    state: Literal["new", "same", "added", "changed"]
    """``added``: settings of others, which get our server. ``changed``: what stands there is not what the pack has."""
    before: str
    after: str

    @property
    def difference(self) -> tuple[str, ...]:
        """From what stands there to what the pack has, as a unified diff."""
        old, new = self.before.splitlines(), self.after.splitlines()
        return tuple(unified_diff(old, new, self.path, f"{self.path} (pack)", lineterm=""))


def plan(root: Path, client: Client, role: Role) -> list[Laid]:
    """Plan of an installation of the client's pack at ``root``, sorted by path.

    Raises:
        InvalidInput: ``link-in-the-way``; ``bad-path``; ``not-a-file``; ``unreadable-settings``.
    """
    tree = WorkTree(root)
    settings, merge = SETTINGS[client]
    before = {path: _standing(tree, path) for path in (settings, *files_of(client))}
    laid = [_file(path, _text_of(before[path]), text) for path, text in files_of(client).items()]
    data = before[settings]
    text = None if data is None else read_text(settings, data)
    merged = merge(settings, text or "", server(role))
    laid_file = _file(settings, text, merged.text)
    if laid_file.state == "changed" and not merged.ours_differed:
        laid_file = laid_file.model_copy(update={"state": "added"})
    return sorted([*laid, laid_file], key=lambda item: item.path)


def lay(root: Path, files: Sequence[Laid]) -> None:
    """Write what is not there as planned.

    Raises:
        InvalidInput: ``link-in-the-way``.
    """
    for file in files:
        if file.state == "same":
            continue
        path = root / file.path
        refuse_links(root, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, file.after.encode())


def _standing(tree: WorkTree, path: str) -> bytes | None:
    refuse_links(tree.root, tree.root / path)
    for folder in PurePosixPath(path).parents:
        if (tree.root / folder).exists() and not (tree.root / folder).is_dir():
            raise InvalidInput(
                "bad-path", f"{folder} is no folder, so {path} has no place", "Move it away.", path=str(folder)
            )
    return tree.read(path) if os.path.lexists(tree.root / path) else None


def _text_of(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def _file(path: str, before: str | None, after: str) -> Laid:
    if before is None:
        return Laid(path=path, state="new", before="", after=after)
    return Laid(path=path, state="same" if before == after else "changed", before=before, after=after)
