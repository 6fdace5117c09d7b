"""Writes whole histories into a git repository: no process for each commit, and packs that git's own gc keeps."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from modelsmith.repository.git import Ident
from modelsmith.repository.listing import REGULAR, Entry
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree_listing import FOLDER, TreeListing
from modelsmith.repository.tree_objects import common_beginning

_DEEPEST = 40
"""Deltas that follow one another in a pack: git's gc keeps up to 50, and need not look for its own."""
_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_REF_DELTA = 7
_LONGEST_COPY, _LONGEST_INSERT = 0xFFFFFF, 127
_WORTH_IT = 512
"""Bytes of a folder's object from which on it is written as what differs from an earlier one."""


class _Object(NamedTuple):
    """What no pack holds yet."""

    kind: str
    data: bytes
    base: str | None
    """Another of them, of which it is written as a delta."""
    depth: int


class ObjectWriter(ObjectReader):
    """Writes commits by itself, where `Git` starts a handful of processes for each."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._new: dict[str, _Object] = {}

    def pack(self) -> None:
        """Write what is new as one pack: a file for each would fill the disk. Format: git's gitformat-pack.

        A folder of thousands, of which one entry changes each time, is written as that entry.
        """
        if not self._new:
            return
        parts = [b"PACK" + struct.pack(">II", 2, len(self._new))]
        for kind, data, base, _ in self._new.values():
            if base is None:
                parts += [_pack_header(_KINDS[kind], len(data)), zlib.compress(data, 1)]
            else:
                delta = _delta(self._new[base].data, data)
                parts += [_pack_header(_REF_DELTA, len(delta)), bytes.fromhex(base), zlib.compress(delta, 1)]
        pack = b"".join(parts)
        named = hashlib.sha1(pack)
        path = self.path / ".git" / "objects" / "pack" / f"pack-{named.hexdigest()}.pack"
        path.write_bytes(pack + named.digest())
        self.run("index-pack", str(path))
        self._new.clear()

    @override
    def _read(self, oid: str, kind: str) -> bytes:
        new_object = self._new.get(oid)
        return new_object.data if new_object and new_object.kind == kind else super()._read(oid, kind)

    @override
    def _read_together(self, oids: Sequence[str]) -> dict[str, bytes]:
        contents = {oid: self._read(oid, "blob") for oid in oids if oid in self._new}
        others = [oid for oid in oids if oid not in contents]
        return contents | (super()._read_together(others) if others else {})

    @override
    def _known(self, oid: str) -> tuple[str, int] | None:
        new_object = self._new.get(oid)
        return (new_object.kind, len(new_object.data)) if new_object else super()._known(oid)

    @override
    def _named(self, name: str, kind: str) -> str | None:
        new_object = self._new.get(name)
        if new_object and (new_object.kind, kind) == ("commit", "tree"):
            return self.commit(name).tree
        return super()._named(name, kind)

    @override
    def lasting(
        self,
        *args: str,
        ids: Sequence[str],
        paths: Sequence[str] = (),
        seconds: float | None = None,
        unless: Set[int] = frozenset(),
    ) -> bytes | None:
        """As `Git.lasting`; which commits of main touched some paths is looked up here: git has not got them yet."""
        if args == ("rev-list", "--first-parent", "--reverse") and paths:
            return "\n".join(self._touching(ids[0], ids[1:], paths)).encode()
        return super().lasting(*args, ids=ids, paths=paths, seconds=seconds, unless=unless)

    def _touching(self, tip: str, without: Sequence[str], paths: Sequence[str]) -> list[str]:
        """Commits before ``tip``, oldest first; of ``without``, each ``^`` and an id, none and nothing before them."""
        begun = {oid.removeprefix("^") for oid in without}
        found: list[str] = []
        at = self.commit(tip)
        while at.id not in begun:
            before = self.listing(at.parents[0]) if at.parents else None
            now = self.listing(at.id)
            if any(_entry_at(now, path) != (_entry_at(before, path) if before else None) for path in paths):
                found.append(at.id)
            if not at.parents:
                break
            at = self.commit(at.parents[0])
        return found[::-1]

    def commit_files(
        self,
        parent: str | None,
        files: Mapping[str, bytes | None],
        message: str,
        author: Ident,
        extra_parents: Sequence[str] = (),
    ) -> str:
        """As `Git.commit_files`; nothing is ever removed here."""
        tree = self._edited(self.tree(parent) if parent else None, files)
        return self.commit_tree(tree, [*([parent] if parent else []), *extra_parents], message, author)

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, author: Ident) -> str:
        """As `Git.commit_tree`."""
        ident = f"{author.name} <{author.email}> {int(author.when.timestamp())} +0000"
        above = "".join(f"parent {parent}\n" for parent in parents)
        return self._write("commit", f"tree {tree}\n{above}author {ident}\ncommitter {ident}\n\n{message}".encode())

    def _edited(self, tree: str | None, files: Mapping[str, bytes | None]) -> str:
        entries = dict(self.entries(tree)) if tree else {}
        in_place = entries.keys() >= {path.partition("/")[0] for path in files}
        inner: dict[str, dict[str, bytes | None]] = {}
        for path, data in files.items():
            name, slash, rest = path.partition("/")
            if slash:
                inner.setdefault(name, {})[rest] = data
            else:
                assert data is not None
                entries[name] = (REGULAR, self._write("blob", data))
                self._remember({entries[name][1]: data})
        for name, below in inner.items():
            entries[name] = (FOLDER, self._edited(entries[name][1] if name in entries else None, below))
        in_order = [*entries.items()]
        if not in_place:
            in_order.sort(key=lambda item: f"{item[0]}/" if item[1][0] == FOLDER else item[0])
        lines = [_line(name, entry) for name, entry in in_order]
        oid = self._write("tree", b"".join(lines), tree)
        self._trees.keep(oid, dict(in_order), sum(map(len, lines)))
        return oid

    def _write(self, kind: str, data: bytes, like: str | None = None) -> str:
        """``like`` is an object of the same kind that is nearly the same."""
        oid = hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()
        if oid not in self._new:
            base = self._new.get(like) if like and len(data) >= _WORTH_IT else None
            if base is None or base.depth == _DEEPEST:
                self._new[oid] = _Object(kind, data, None, 0)
            else:
                self._new[oid] = _Object(kind, data, like, base.depth + 1)
        return oid


def _pack_header(kind: int, size: int) -> bytes:
    """Kind and size of an object in a pack, seven bits a byte after the first four."""
    byte, size = kind << 4 | size & 15, size >> 4
    return bytes([byte | 128]) + _varint(size) if size else bytes([byte])


def _varint(size: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last with the highest bit."""
    out = bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def _delta(base: bytes, data: bytes) -> bytes:
    """What makes one text of another that has the same beginning and end: copy, insert, copy."""
    begin = common_beginning(base, data)
    end = common_beginning(base[begin:][::-1], data[begin:][::-1])
    middle = data[begin : len(data) - end]
    inserts = [middle[at : at + _LONGEST_INSERT] for at in range(0, len(middle), _LONGEST_INSERT)]
    return b"".join([
        _varint(len(base)), _varint(len(data)),
        _copy(0, begin),
        *(bytes([len(insert)]) + insert for insert in inserts),
        _copy(len(base) - end, end),
    ])  # fmt: skip


def _copy(offset: int, size: int) -> bytes:
    """The instruction to copy from the base: a bit for each byte of offset and size that is not zero."""
    if size > _LONGEST_COPY:
        return _copy(offset, _LONGEST_COPY) + _copy(offset + _LONGEST_COPY, size - _LONGEST_COPY)
    fields = [*offset.to_bytes(4, "little"), *size.to_bytes(3, "little")]
    return bytes([128 | sum(1 << at for at, byte in enumerate(fields) if byte), *filter(None, fields)]) if size else b""


@cache
def _line(name: str, entry: Entry) -> bytes:
    """An entry as the object of its folder has it; a folder of many is written anew for one that changed."""
    return f"{entry[0].lstrip('0')} {name}\0".encode() + bytes.fromhex(entry[1])


def _entry_at(listing: TreeListing, path: str) -> object:
    return listing.folder(path) or listing.entry(path)
