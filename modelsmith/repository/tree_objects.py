"""A folder's object as git writes it: mode, name and id of each entry, in git's order. Pure.

The format is that of git's ``tree.c`` and of what ``git fsck`` asks of it (``fsck_tree``).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import accumulate
from operator import add, itemgetter, lt
from typing import NamedTuple

from modelsmith.repository.listing import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK, Entry
from modelsmith.repository.paths import utf8
from modelsmith.repository.tree_listing import FOLDER

_MODES = {b"40000": FOLDER, **{mode.encode(): mode for mode in (REGULAR, EXECUTABLE, SYMLINK, SUBMODULE)}}
_BYTES_OF_MODE = {mode: len(text) for text, mode in _MODES.items()}
_ENTRIES = {width: re.compile(rb"([0-7]{5,6}) ([^\0]{1,255})\0([\s\S]{%d})" % width) for width in (20, 32)}
"""An entry of a folder's object: mode, name, id."""
_QUICKLY = 1 << 20
"""Bytes of a folder that is read at once: no search in it for what is not there takes long."""
_BARRED = frozenset({b"", b".", b"..", b".git"})


def parse_tree(data: bytes, width: int) -> dict[str, Entry] | None:
    """Name to entry of one folder, sub-folders included (mode `FOLDER`); None when ``git fsck`` would refuse it.

    Args:
        data: Content of the object.
        width: Bytes of an id: 20, or 32 with SHA-256.

    Raises:
        InvalidInput: ``bad-path`` for a name that is not UTF-8.
    """
    if len(data) < _QUICKLY and (entries := _at_once(data, width)):
        return entries
    return _one_by_one(data, width)


def _one_by_one(data: bytes, width: int) -> dict[str, Entry] | None:
    entries: dict[str, Entry] = {}
    at, last = 0, b""
    while at < len(data):
        end = data.find(b"\0", at)
        mode, _, name = data[at:end].partition(b" ")
        place = name + b"/" if mode == b"40000" else name
        sound = mode in _MODES and b"/" not in name and name.lower() not in _BARRED
        if end < 0 or not sound or place <= last or (decoded := utf8(name)) in entries:
            return None
        entries[decoded] = (_MODES[mode], data[end + 1 : end + 1 + width].hex())
        at, last = end + 1 + width, place
    return entries


def _at_once(data: bytes, width: int) -> dict[str, Entry] | None:
    """What a sound folder holds, all of it read at once; None for one that has to be looked at name by name."""
    matches: list[tuple[bytes, bytes, bytes]] = _ENTRIES[width].findall(data)
    modes, names, ids = zip(*matches, strict=True) if matches else ((), (), ())
    joined = b"\0".join(names)
    if sum(map(len, modes)) + len(joined) + 1 + (width + 1) * len(matches) != len(data):
        return None
    places = [name + b"/" if mode == b"40000" else name for mode, name, _ in matches]
    sound = set(modes) <= _MODES.keys() and b"/" not in joined and not _BARRED & set(joined.lower().split(b"\0"))
    if not sound or not all(map(lt, places, places[1:])):
        return None
    try:
        decoded = joined.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        return None
    entries = dict(zip(decoded, zip(map(_MODES.__getitem__, modes), map(bytes.hex, ids), strict=True), strict=True))
    return entries if len(entries) == len(matches) else None


class FolderRead(NamedTuple):
    """A sound folder as it was read, so that one that is nearly the same need not be read from its beginning."""

    data: bytes
    names: list[str]
    entries: list[Entry]
    ends: list[int]
    """Where each entry ends in the data."""

    def listed(self) -> dict[str, Entry]:
        """Its entries, by name."""
        return dict(zip(self.names, self.entries, strict=True))


def folder_of(data: bytes, width: int, entries: dict[str, Entry]) -> FolderRead:
    """A folder that `parse_tree` found sound."""
    names = list(entries)
    kinds = map(_BYTES_OF_MODE.__getitem__, map(itemgetter(0), entries.values()))
    lengths = map(add, kinds, map(len, map(str.encode, names)))
    return FolderRead(data, names, list(entries.values()), list(accumulate(map((2 + width).__add__, lengths))))


def parse_like(data: bytes, width: int, like: FolderRead) -> FolderRead | None:
    """As `parse_tree`, reading only what differs from a known folder; None where that is not certain.

    An entry says by itself where it ends, so entries of equal bytes at the beginning and the end are the same entries.
    What is asked of neighbours (the order) is asked anew where the three pieces meet.
    """
    old = like.data
    first = bisect_right(like.ends, common_beginning(old, data))
    begin = like.ends[first - 1] if first else 0
    same = common_beginning(old[begin:][::-1], data[begin:][::-1])
    last = first if len(old) - same <= begin else bisect_left(like.ends, len(old) - same) + 1
    end = like.ends[last - 1] if last else 0
    growth = len(data) - len(old)
    middle = _at_once(data[begin : end + growth], width) if begin < end + growth else {}
    if middle is None or 2 * (end + growth - begin) > len(data):
        return None
    between = folder_of(b"", width, middle)
    names = [*like.names[:first], *between.names, *like.names[last:]]
    entries = [*like.entries[:first], *between.entries, *like.entries[last:]]
    seams = {first, first + len(middle)} - {0, len(names)}
    if not all(_place(names[at - 1], entries[at - 1]) < _place(names[at], entries[at]) for at in seams):
        return None
    after = [at + growth for at in like.ends[last:]] if growth else like.ends[last:]
    ends = [*like.ends[:first], *(begin + at for at in between.ends), *after]
    return FolderRead(data, names, entries, ends) if len(set(names)) == len(names) else None


def _place(name: str, entry: Entry) -> bytes:
    return name.encode() + b"/" if entry[0] == FOLDER else name.encode()


def common_beginning(data: bytes, other: bytes) -> int:
    """How many bytes two texts have in common at their beginning."""
    low, high = 0, min(len(data), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if data[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
