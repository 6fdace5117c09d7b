"""Receipts of merges on main; those of folders that were read before come from what is kept of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from pydantic import ValidationError

from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.tree import Revision, Tree, read_each
from modelsmith.schema.promotion import Receipt

_TOPS = {"promotions": 2, ".github/governance/receipts": 1}
"""Where receipts lie, and how deep below that the receipts of one specialist, or of one change, lie together."""
_NAME = "/merge.json"
_RECEIPT = re.compile(r"/receipts/(?:[^/]+/)?merge\.json$")
_KIND = "receipts"
"""Facts about folders of receipts; a push may ask for them and not for the histories, or the other way round."""


class Receipted(NamedTuple):
    """A merge as its receipt tells it."""

    path: str
    """Path of the receipt."""
    pull: int
    merge: str
    at: float
    """Seconds since 1970, to the microsecond."""


class SignedFor(NamedTuple):
    """What all receipts together say of times and numbers."""

    latest: float
    """Seconds since 1970, to the microsecond; 0 without receipts."""
    pulls: set[int]
    left: list[str]
    """As the second of `receipts_on`."""


def is_receipt(path: str) -> bool:
    """Whether the path is that of a merge's receipt."""
    return _RECEIPT.search(path) is not None


def receipts_on(tree: Tree, facts: KeptFacts | None) -> tuple[list[Receipted], list[str]]:
    """Receipts that can be read, and files of their name in folders where not all can: those are the caller's to read.

    Where nothing is kept, all are.
    """
    found: list[Receipted] = []
    folders, left = _divided(tree, facts)
    for path, oid in folders.items():
        assert facts
        receipts = _receipts_in(tree, path, oid, facts.beside(_KIND))
        left += _files_in(tree, path) if receipts is None else ()
        found += receipts or ()
    return found, sorted(left)


def signed_on(tree: Tree, facts: KeptFacts | None) -> SignedFor:
    """The latest time and the numbers of the receipts that `receipts_on` gives.

    A main has thousands of folders, and each push asks. So what each says of this is kept by itself, and parsed
    together with all others.
    """
    kept: list[str] = []
    new: list[list[float]] = []
    folders, left = _divided(tree, facts)
    for path, oid in folders.items():
        assert facts
        known, key = facts.beside(_KIND), f"{path} {oid}"
        short = known.text(f"signed {key}")
        if short is not None:
            known.text(key)  # asked for together, so that neither is forgotten
            kept.append(short)
        elif (receipts := _receipts_in(tree, path, oid, known)) is None:
            left += _files_in(tree, path)
        else:
            new.append([max((one.at for one in receipts), default=0), *(one.pull for one in receipts)])
            known.add(f"signed {key}", new[-1])
    said: list[list[float]] = [*json.loads(f"[{','.join(kept)}]"), *new]
    latest = max((times for times, *_ in said), default=0)
    return SignedFor(latest, set(map(int, chain.from_iterable(pulls for _, *pulls in said))), sorted(left))


def _divided(tree: Tree, facts: KeptFacts | None) -> tuple[dict[str, str], list[str]]:
    """Folders of receipts with the ids of their trees, and files of a receipt's name that lie in none of them."""
    folders: dict[str, str] = {}
    left: list[str] = []
    for top, depth in _TOPS.items():
        divided = tree.divide(top, depth) if facts and isinstance(tree, Revision) else None
        below, files = ({}, tree.paths(top)) if divided is None else divided
        folders |= below
        left += [path for path in files if path.endswith(_NAME)]
    return folders, left


def _receipts_in(tree: Tree, path: str, oid: str, known: KeptFacts) -> list[Receipted] | None:
    """Receipts of one folder, which are kept; None where one cannot be read, or lies where no receipt belongs."""
    key = f"{path} {oid}"
    kept = known.get(key)
    if kept is not None:
        return [Receipted(path + place, pull, merge, at) for place, pull, merge, at in kept]
    read = _read(tree, _files_in(tree, path))
    if read is not None:
        known.add(key, [[receipt.path.removeprefix(path), *receipt[1:]] for receipt in read])
    return read


def _files_in(tree: Tree, folder: str) -> list[str]:
    return [path for path in tree.paths(folder) if path.endswith(_NAME)]


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
