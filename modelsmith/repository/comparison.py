"""What differs between trees: between two commits, and between a commit and its parents.

Two trees share every folder in which they agree, so a comparison costs what differs, however large the repository is.
Nothing here reads git: `Trees` gives folders and commits by id, and limits end the work on trees made to be endless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, islice
from operator import is_not, not_
from typing import NamedTuple, Protocol

from modelsmith.repository.commits import AddedFile, Commit
from modelsmith.repository.git_process import over_limits
from modelsmith.repository.listing import SUBMODULE, Entry
from modelsmith.repository.tree_listing import FOLDER, TOO_MANY
from modelsmith.schema.errors import GateNotCleared
from modelsmith.schema.governance import DEEPEST_PATH, LONGEST_PATH, MOST_PATHS
from modelsmith.schema.pull import Change, ChangedPath

MOST_ADDED = 100_000
"""Versions of files that the commits of one proposal may bring."""
MOST_LOOKED_AT = 3_000_000
"""Entries of folders that are looked at to find them, once for each parent: about two seconds."""
MOST_COMPARED = 2_000_000
"""Entries of folders that are looked at to compare two commits."""

SPLIT = "Split the proposal."
_SQUASH = "Propose the same change in one commit."


class Trees(Protocol):
    """Folders and commits by id."""

    def entries(self, tree: str) -> Mapping[str, Entry]:
        """Name to entry of one folder, sub-folders included (mode `FOLDER`)."""

    def differing(self, old: str, new: str, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Sequence[str]:
        """As `names_that_differ`, of two trees of one folder and what they hold."""

    def commit(self, oid: str) -> Commit:
        """The tree of one commit."""


Pair = tuple[str | None, str | None]
"""Trees of a folder before and after; None: there is none."""


def names_that_differ(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> tuple[str, ...]:
    """Names that differ between two listings: first those of the later listing, then those that are gone."""
    if len(before) == len(after) and list(before) == list(after):
        others = compress(after, map(is_not, before.values(), after.values()))
        return tuple(name for name in others if before[name] != after[name])
    others = compress(after, map(is_not, map(before.get, after), after.values()))
    removed = compress(before, map(not_, map(after.__contains__, before)))
    return (*(name for name in others if before.get(name) != after[name]), *removed)


class _Folder(NamedTuple):
    """A folder that waits to be compared: its path, and its tree before and after (None: there is none)."""

    prefix: str
    old: str | None
    new: str | None


def change(trees: Trees, old: str, new: str) -> Change:
    """What differs between the files of two trees; a rename is a removal and an addition.

    Raises:
        GateNotCleared: ``over-limits`` for more than `MOST_PATHS`, or after `MOST_COMPARED` entries; ``empty-folder``
            for one that is new and holds nothing.
    """
    paths = list(islice(_differences(trees, old, new), MOST_PATHS + 1))
    if len(paths) > MOST_PATHS:
        raise over_limits(TOO_MANY, SPLIT)
    return Change(paths=tuple(sorted(paths, key=lambda changed: changed.path)))


def _differences(trees: Trees, old_root: str, new_root: str) -> Iterator[ChangedPath]:
    """Each folder that waits holds a path that differs, as git writes no empty folders: so few need wait."""
    absent = ("000000", "0" * len(old_root))
    waiting = [_Folder("", old_root, new_root)]
    budget, count = MOST_COMPARED, 0
    while waiting:
        prefix, old, new = waiting.pop()
        if old == new:
            continue
        before = trees.entries(old) if old else {}
        after = trees.entries(new) if new else {}
        if new and prefix and not after:
            raise _of_nothing(prefix)
        budget -= 1 + len(before) + len(after)
        if budget < 0:
            raise over_limits(TOO_MANY, SPLIT)
        differing = trees.differing(old, new, before, after) if old and new else (*before, *after)
        for name in differing:
            was, now = before.get(name, absent), after.get(name, absent)
            below = [oid if mode == FOLDER else None for mode, oid in (was, now)]
            if any(below):
                folder = f"{prefix}{name}/"
                if below[1]:
                    _require_reach(folder)
                waiting.append(_Folder(folder, below[0], below[1]))
                if count + len(waiting) > MOST_PATHS:
                    raise over_limits(TOO_MANY, SPLIT)
            (old_mode, old_blob), (new_mode, new_blob) = (absent if e[0] == FOLDER else e for e in (was, now))
            if old_mode != new_mode or old_blob != new_blob:
                count += 1
                yield ChangedPath(
                    path=f"{prefix}{name}", old_mode=old_mode, new_mode=new_mode, old_blob=old_blob, new_blob=new_blob
                )


def below(trees: Trees, pair: Pair) -> tuple[int, set[Pair], set[str]]:
    """How many entries two trees of one folder have; folders in which they differ; and new files, by id."""
    before, after = (trees.entries(oid) if oid else {} for oid in pair)
    folders: set[Pair] = set()
    files: set[str] = set()
    old, new = pair
    for name in trees.differing(old, new, before, after) if old and new else (*before, *after):
        was, now = before.get(name), after.get(name)
        above = was[1] if was and was[0] == FOLDER else None
        if now and now[0] == FOLDER:
            folders.add((above, now[1]))
        elif above:
            folders.add((above, None))
        if now and now[0] not in (FOLDER, SUBMODULE):
            files.add(now[1])
    return 1 + len(before) + len(after), folders, files


def added_files(trees: Trees, commits: Sequence[str]) -> list[AddedFile]:
    """What each of the commits holds and none of its parents holds in the same place.

    Raises:
        GateNotCleared: ``over-limits`` for more than `MOST_ADDED`, or after `MOST_LOOKED_AT` entries;
            ``empty-folder``.
    """
    result: list[AddedFile] = []
    budget = MOST_LOOKED_AT
    for commit in commits:
        links = trees.commit(commit)
        above = dict.fromkeys(links.parents)
        budget -= len(above)
        if budget < 0:
            raise _too_much()
        waiting: list[tuple[str, str, list[str]]] = [("", links.tree, [trees.commit(p).tree for p in above])]
        while waiting:
            prefix, tree, before = waiting.pop()
            entries, others = trees.entries(tree), list[Mapping[str, Entry]]()
            if prefix and not entries:
                raise _of_nothing(prefix)
            budget -= 1 + (0 if before else len(entries))
            for other in dict.fromkeys(before):
                others.append(trees.entries(other))
                budget -= max(len(entries), len(others[-1]))
                if budget < 0:
                    break
            if budget < 0:
                raise _too_much()
            for name in trees.differing(before[0], tree, others[0], entries) if before else tuple(entries):
                if name not in entries:
                    continue
                entry, olds = entries[name], [other.get(name) for other in others]
                if entry in olds:
                    continue
                mode, oid = entry
                if mode == FOLDER:
                    _require_reach(folder := f"{prefix}{name}/")
                    waiting.append((folder, oid, [old[1] for old in olds if old and old[0] == FOLDER]))
                else:
                    result.append(AddedFile(commit, f"{prefix}{name}", mode, oid))
                if len(result) + len(waiting) > MOST_ADDED:
                    raise over_limits(f"The proposal's commits bring more than {MOST_ADDED} versions of files", _SQUASH)
    return result


def _require_reach(folder: str) -> None:
    """Refuse a new folder below which no path could stand, before anything in it is looked at.

    Raises:
        GateNotCleared: ``over-limits``.
    """
    deep = folder.count("/")
    if deep >= DEEPEST_PATH or len(folder) > LONGEST_PATH:
        words = f"{deep} levels deep" if deep >= DEEPEST_PATH else f"longer than {LONGEST_PATH} characters"
        raise over_limits(
            f"The folder {folder[:60]!a}... is {words}, and nothing may stand there", "Shorten the paths."
        )


def _of_nothing(folder: str) -> GateNotCleared:
    """The refusal of a folder that no file's path tells of: nobody would be asked about it, and a clone has it."""
    return GateNotCleared(
        "empty-folder",
        f"The folder {folder[:60]!a} holds nothing, so no path shows that it is there; git itself writes none",
        "Make the commit again with git.",
    )


def _too_much() -> GateNotCleared:
    return over_limits("The proposal's commits bring too much to be looked at one by one", _SQUASH)
