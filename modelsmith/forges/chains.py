"""Logs of pull requests as they lie in git, many at a time: three git processes however many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from modelsmith.repository.git import REGULAR, Git
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure

MOST_EVENTS = 200
"""Events of one pull request; every reader checks the signatures of each."""
MOST_LINKS = MOST_EVENTS + 3
"""Commits of its chain: the root, and what ends it (``closed``, ``merged``) may always be there."""
LARGEST_EVENT = 1 << 19
"""Bytes of one file of an event (512 KiB)."""


@dataclass(frozen=True)
class Link:
    """One commit of a log and its files."""

    commit: str
    parents: tuple[str, ...]
    files: Mapping[str, bytes]
    """Content by name; entries that are no plain files with a wanted name, or too large, are listed empty."""


def read_chains(git: Git, tips: Collection[str], wanted: Collection[str]) -> dict[str, tuple[Link, ...]]:
    """The commits along the first parents of each tip, oldest first, the root included.

    Only top-level files with a ``wanted`` name are read, and of a chain longer than `MOST_LINKS` only its
    beginning, so that a ref that leads into other history costs little, and one costs nothing to the readers of others.
    A tip that is no commit (a tag object, a file) has an empty chain.

    Raises InfrastructureFailure when git fails or an object is missing, IntegrityFailure (``bad-tree``) when one is
    damaged.
    """
    if not tips:
        return {}
    arguments = ("rev-list", "--first-parent", "--parents", "--stdin")
    lines = git.text(*arguments, input="".join(f"{tip}\n" for tip in tips).encode()).splitlines()
    parents = {commit: tuple(others) for commit, *others in (line.split() for line in lines)}
    chains = {tip: _chain(tip, parents)[: MOST_LINKS + 1] for tip in tips}
    trees = _trees(git, dict.fromkeys(commit for chain in chains.values() for commit in chain))
    asked = {oid for tree in trees.values() for name, oid in tree.items() if name in wanted and oid}
    blobs = git.read_blobs([oid for oid, size in git.sizes(asked).items() if size <= LARGEST_EVENT])
    files = {
        commit: {name: blobs.get(oid, b"") if name in wanted else b"" for name, oid in tree.items()}
        for commit, tree in trees.items()
    }
    return {tip: tuple(Link(commit, parents[commit], files[commit]) for commit in chains[tip]) for tip in tips}


def _chain(tip: str, parents: Mapping[str, tuple[str, ...]]) -> list[str]:
    if tip not in parents:
        return []
    chain = [tip]
    while parents[chain[-1]]:
        chain.append(parents[chain[-1]][0])
    return chain[::-1]


def _trees(git: Git, commits: Iterable[str]) -> dict[str, dict[str, str]]:
    """Top-level names of each commit and their blob ids; the id is empty for all but plain files."""
    asked = list(commits)
    out = git.run("cat-file", "--batch", input="".join(f"{commit}^{{tree}}\n" for commit in asked).encode())
    trees: dict[str, dict[str, str]] = {}
    at = 0
    for commit in asked:
        end = out.index(b"\n", at)
        header = out[at:end].decode("utf-8", "replace").split(" ")
        if len(header) != 3 or header[1] != "tree":
            raise InfrastructureFailure(
                "missing-object",
                f"The tree of {commit} is not in this repository.",
                "Run `git fsck` there.",
                commit=commit,
            )
        size, width = int(header[2]), len(header[0]) // 2
        trees[commit] = _entries(out[end + 1 : end + 1 + size], width)
        at = end + size + 2
    return trees


def _entries(tree: bytes, width: int) -> dict[str, str]:
    """Entries of a raw tree object: ``<mode> <name>NUL<id of width bytes>``. git hands out what is in it unchecked."""
    entries: dict[str, str] = {}
    at = 0
    while at < len(tree):
        end = tree.find(b"\0", at)
        mode, space, name = tree[at : max(at, end)].partition(b" ")
        oid = tree[end + 1 : end + 1 + width].hex()
        if not space or len(oid) != 2 * width:
            raise IntegrityFailure("bad-tree", "A tree object is damaged.", "Restore the forge from a trusted copy.")
        entries[name.decode("utf-8", "replace")] = oid if mode == REGULAR.encode() else ""
        at = end + 1 + width
    return entries
