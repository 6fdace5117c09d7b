"""Logs of pull requests as they lie in git, many at a time: three git processes however many there are.

Nothing is read before its size was asked: whoever may add to a log could else make everybody read what they like.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.listing import REGULAR, Entry
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError

MOST_EVENTS = 200
"""Events of one pull request; every reader checks the signatures of each."""
MOST_LINKS = MOST_EVENTS + 3
"""Commits of its chain: the root, and what ends it (``closed``, ``merged``) may always be there."""
LARGEST_EVENT = 1 << 19
"""Bytes of one file of an event (512 KiB)."""
LARGEST_LINK = 1 << 14
"""Bytes of an event's commit, and of its tree (16 KiB): a line and a signature, four names."""


@dataclass(frozen=True)
class Link:
    """One commit of a log and its files."""

    commit: str
    parents: tuple[str, ...]
    files: Mapping[str, bytes]
    """Content by name; entries that are no plain files with a wanted name, or too large, are listed empty."""


def read_chains(
    git: Git, tips: Collection[str], names: Collection[str]
) -> dict[str, tuple[Link, ...] | ModelsmithError]:
    """The commits along the first parents of each tip, oldest first, the root included; or why they cannot be read.

    Only top-level files with a name of ``names`` are read, and of a chain longer than `MOST_LINKS` none, so that a ref
    that leads into other history costs little, and one costs nothing to the readers of others. A tip that is not a
    commit (a tag object, a file) has an empty chain.
    """
    if not tips:
        return {}
    with ObjectReader(git.path) as reader:
        _look_ahead(reader, tips)
        walked = {tip: _walk(reader, tip) for tip in tips}
    steps = [step for walk in walked.values() if not isinstance(walk, ModelsmithError) for step in walk]
    try:
        blobs = _blobs(git, steps, names)
    except ModelsmithError as error:
        one_by_one = {tip: read_chains(git, [tip], names)[tip] for tip in tips if len(tips) > 1}
        return one_by_one or dict.fromkeys(tips, error)
    return {
        tip: walk if isinstance(walk, ModelsmithError) else tuple(_link(step, names, blobs) for step in walk)
        for tip, walk in walked.items()
    }


_Step = tuple[Commit, Mapping[str, Entry]]
"""A commit of a chain and its folder."""


def _blobs(git: Git, steps: Collection[_Step], names: Collection[str]) -> dict[str, bytes]:
    oids = {oid for _, tree in steps for name, (mode, oid) in tree.items() if name in names and mode == REGULAR}
    return git.read_blobs([oid for oid, size in git.sizes(oids).items() if size <= LARGEST_EVENT])


def _look_ahead(reader: ObjectReader, tips: Collection[str]) -> None:
    """Read together what `_walk` will ask for: a link of all chains at a time, and folders of chains that end."""
    at = {tip: tip for tip in tips}
    trees: dict[str, list[str]] = {tip: [] for tip in tips}
    for _ in range(MOST_LINKS):
        loaded = reader.ahead(set(at.values()), "commit", LARGEST_LINK)
        for tip, oid in list(at.items()):
            del at[tip]
            with suppress(IntegrityFailure):
                commit = reader.commit(oid) if oid in loaded else None
                if commit:
                    trees[tip].append(commit.tree)
                if commit and commit.parents:
                    at[tip] = commit.parents[0]
        if not at:
            break
    reader.ahead({tree for tip, roots in trees.items() if tip not in at for tree in roots}, "tree", LARGEST_LINK)


def _walk(reader: ObjectReader, tip: str) -> tuple[_Step, ...] | ModelsmithError:
    try:
        chain: list[Commit] = []
        at = tip if reader.rev(tip) == tip else ""
        while at and len(chain) <= MOST_LINKS:
            _require_small(reader, at)
            chain.append(reader.commit(at))
            at = next(iter(chain[-1].parents), "")
        if len(chain) > MOST_LINKS:
            return tuple((commit, {}) for commit in chain)
        for commit in chain:
            _require_small(reader, commit.tree)
        return tuple((commit, reader.entries(commit.tree)) for commit in chain[::-1])
    except ModelsmithError as error:
        return error


def _require_small(reader: ObjectReader, oid: str) -> None:
    size = reader.sizes([oid])[oid]
    if size > LARGEST_LINK:
        raise IntegrityFailure(
            "bad-event",
            f"A pull request's log holds an object of {size} bytes, where {LARGEST_LINK} are allowed.",
            "Restore the pull request's ref from a trusted copy of the forge.",
            object=oid,
            size=size,
        )


def _link(step: _Step, names: Collection[str], blobs: Mapping[str, bytes]) -> Link:
    commit, tree = step
    plain = {name: oid for name, (mode, oid) in tree.items() if name in names and mode == REGULAR}
    files = {name: blobs.get(plain.get(name, ""), b"") for name in tree}
    return Link(commit.id, commit.parents, files)
