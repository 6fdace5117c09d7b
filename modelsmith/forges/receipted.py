"""Receipts of merges on main; those of folders that were read before come from what is kept of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import ValidationError

from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.tree import Revision, Tree, read_each
from modelsmith.schema.promotion import Receipt

_TOPS = {"promotions": 2, ".github/governance/receipts": 1}
"""Where receipts lie, and how deep below that the receipts of one specialist, or of one change, lie together."""
_NAME = "/merge.json"
_RECEIPT = re.compile(r"/receipts/(?:[^/]+/)?merge\.json$")


class Receipted(NamedTuple):
    """A merge as its receipt tells it."""

    path: str
    """Path of the receipt."""
    pull: int
    merge: str
    at: float
    """Seconds since 1970, to the microsecond."""


def is_receipt(path: str) -> bool:
    """Whether the path is that of a merge's receipt."""
    return _RECEIPT.search(path) is not None


def receipts_on(tree: Tree, facts: KeptFacts | None) -> tuple[list[Receipted], list[str]]:
    """Receipts that can be read, and files of their name in folders where not all can: those are the caller's to read.

    Where nothing is kept, all are.
    """
    receipts: list[Receipted] = []
    unread: list[str] = []
    for top, depth in _TOPS.items():
        divided = tree.divide(top, depth) if facts and isinstance(tree, Revision) else None
        if facts is None or divided is None:
            unread += [path for path in tree.paths(top) if path.endswith(_NAME)]
            continue
        folders, files = divided
        unread += [path for path in files if path.endswith(_NAME)]
        for path, oid in folders.items():
            stored = facts.get(f"{path} {oid}")
            if stored is None:
                paths = [name for name in tree.paths(path) if name.endswith(_NAME)]
                parsed = _read(tree, paths)
                if parsed is None:
                    unread += paths
                    continue
                stored = [[receipt.path.removeprefix(path), *receipt[1:]] for receipt in parsed]
                facts.add(f"{path} {oid}", stored)
            receipts += [Receipted(path + place, pull, merge, at) for place, pull, merge, at in stored]
    return receipts, sorted(unread)


def _read(tree: Tree, paths: Sequence[str]) -> list[Receipted] | None:
    """All of them; None where one cannot be read, or lies where no receipt belongs."""
    contents, refused = read_each(tree, paths)
    if refused or not all(map(is_receipt, paths)):
        return None
    try:
        receipts = [(path, Receipt.model_validate_json(contents[path])) for path in paths]
    except ValidationError:
        return None
    return [Receipted(path, receipt.pull, receipt.merge, receipt.at.timestamp()) for path, receipt in receipts]
