"""Git's object database read by one process, for work that looks at a whole history.

Content addresses do the rest: two commits share every folder in which they agree, so comparing them costs what
differs between them, however large the repository is. What is read is checked against its id, so that an object that
was overwritten on disk is found. A history that is cut short (a shallow clone) is an error, never a beginning.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from typing_extensions import override

from modelsmith.repository import comparison
from modelsmith.repository.bounded import Bounded
from modelsmith.repository.cat_file import CatFile, Ended, lent
from modelsmith.repository.commits import AddedFile, Commit
from modelsmith.repository.git import Git
from modelsmith.repository.git_process import missing_object, over_limits
from modelsmith.repository.listing import Entry
from modelsmith.repository.tree_listing import TreeListing
from modelsmith.repository.tree_objects import FolderRead, folder_of, parse_like, parse_tree
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure
from modelsmith.schema.governance import LARGEST_FILE
from modelsmith.schema.pull import Change

LARGEST_BYTES = LARGEST_FILE
"""Largest object that is read into memory (256 MiB); `ObjectReader.sha256` has no limit."""

_BLOCK = 1 << 20
LARGEST_FOLDER = 1 << 24
"""Bytes of one folder's object: about 400,000 names."""
_TREES_KEPT, _TREE_COSTS = 1 << 22, 512
"""Bytes of folders that are remembered, and what each counts beside its own: about 30 MB of memory when it is full. A
thousand promotions have about 2,300 folders, and a step of a history asks again for few of them."""
_LARGE_FOLDERS, _LARGE_KEPT = (1 << 11, 1 << 20), 4
"""Bytes of folders that may be long and nearly the same as one that was read shortly before, and how many of those are
kept: each step of a history changes one name of them. They share what is the same, so they take little memory."""
SMALL, _KEPT = 1 << 19, 1 << 25
"""Files of up to 512 KiB are remembered, 32 MiB of them: governed files are read at each step of a history, and
evidence by each step of its specialist."""
_FILE_COSTS = 256
"""What a file that is remembered counts beside its own bytes: a long main has thousands that are smaller."""
_CHANGES_KEPT, _FEW_PATHS = 512, 256
"""Comparisons that are remembered, and the most paths of one: a step of a history is compared several times."""
_DIFFERING_KEPT = 1 << 12
"""Pairs of folders of which the names that differ are remembered."""
_FACTS_KEPT = 1 << 13
"""Objects of which kind and size are remembered: about 2 MB of memory."""
_MOST_AHEAD = 1 << 16
"""Files that are read before somebody asks; of more, none."""
_AT_ONCE = 128
"""Objects asked for before the first is read; so many questions fit into a pipe, and nobody waits for anybody."""
_COMMITS_AT_ONCE = 1 << 10
"""Commits of a log that are read before the first of them is looked at."""
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(rb"tree ([0-9a-f]+)\n((?:parent [0-9a-f]+\n)*)(?=author )")


class ObjectReader(Git):
    """`Git` whose answers about commits, trees and files come from one ``git cat-file`` process; use it as a context.

    The answers are those of `Git`, for full object ids; names of refs are resolved as there. It is stricter: an object
    that does not fit its id, a tree that ``git fsck`` would refuse and an object above `LARGEST_BYTES` raise
    IntegrityFailure.

    Concurrency: one reader is for one thread, since questions and answers share a pipe and the memory is not guarded.
    Several readers of one repository may work at once; each has a process of its own while its block lasts.

    Freshness: commits, trees and small files are remembered for the reader's life, by id, which cannot go out of date.
    Nothing is remembered of a ref. An object that came after the process started is found, since a process looks again
    for what it misses.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lent: AbstractContextManager[CatFile] | None = None
        self._process: CatFile | None = None
        self._commits: dict[str, Commit] = {}
        self._trees = Bounded[str, Mapping[str, Entry]](_TREES_KEPT)
        self._large: list[FolderRead] = []
        self._digests: dict[str, str] = {}
        self._small = Bounded[str, bytes](_KEPT)
        self._facts: dict[str, tuple[str, int]] = {}
        self._ahead: dict[tuple[str, str], bytes] = {}
        self._changes = Bounded[tuple[str, str], Change](_CHANGES_KEPT)
        self._differing = Bounded[tuple[str, str], tuple[str, ...]](_DIFFERING_KEPT)

    def __enter__(self) -> Self:
        self._lent = lent(self.path)
        self._process = self._lent.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process = None
        assert self._lent
        self._lent.__exit__(kind, error, trace)

    @property
    def is_open(self) -> bool:
        """Whether it can be asked: its block has begun and lasts."""
        return self._process is not None

    @override
    def read_blobs(self, oids: Sequence[str]) -> dict[str, bytes]:
        contents = {oid: data for oid in oids if (data := self._small.get(oid)) is not None}
        unread = [oid for oid in dict.fromkeys(oids) if oid not in contents]
        if not all(map(_ID.fullmatch, unread)):
            return {oid: self._read(oid, "blob") for oid in oids}
        for start in range(0, len(unread), _AT_ONCE):
            contents |= self._read_together(unread[start : start + _AT_ONCE])
        return {oid: contents[oid] for oid in oids}

    def _read_together(self, oids: Sequence[str]) -> dict[str, bytes]:
        """Files that are all asked for before the first is read. All answers are heard, whatever one of them is."""
        process = self._running()
        contents: dict[str, bytes] = {}
        failed: list[IntegrityFailure] = []
        with suppress(Ended):
            process.ask(*(f"contents {oid}" for oid in oids))
            for oid in oids:
                answer = process.line()
                if not answer.endswith(" missing"):
                    try:
                        contents[oid] = b"".join(self._content(oid, "blob", answer, LARGEST_BYTES))
                    except IntegrityFailure as error:
                        failed.append(error)
        if failed:
            raise failed[0]
        contents |= {oid: self._read(oid, "blob") for oid in oids if oid not in contents}
        self._remember(contents)
        return contents

    def _remember(self, files: Mapping[str, bytes]) -> None:
        for oid, data in files.items():
            if len(data) <= SMALL:
                self._small.keep(oid, data, len(data) + _FILE_COSTS)

    @override
    def sizes(self, oids: Collection[str]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for oid in set(oids):
            facts = self._known(oid) if _ID.fullmatch(oid) else None
            if facts is None:
                raise missing_object(oid, "not")
            sizes[oid] = facts[1]
        return sizes

    def _known(self, oid: str) -> tuple[str, int] | None:
        """Kind and size of an object, by its whole id; None when it is missing, which is not remembered."""
        if oid not in self._facts:
            facts = self._ask(f"info {oid}").split(" ")
            if len(facts) != 3:
                return None
            if len(self._facts) >= _FACTS_KEPT:
                self._facts.clear()
            self._facts[oid] = (facts[1], int(facts[2]))
        return self._facts[oid]

    @override
    def read_commits(self, commits: Sequence[str]) -> dict[str, bytes]:
        return {oid: self._read(oid, "commit") for oid in commits}

    @override
    def list_tree(self, rev: str, prefix: str = "") -> dict[str, Entry]:
        return dict(self.listing(rev).below(prefix.removesuffix("/")))

    @override
    def listing(self, rev: str) -> TreeListing:
        return TreeListing(self.entries, self._root(rev))

    @override
    def change(self, old: str, new: str) -> Change:
        roots = self._root(old), self._root(new)
        hit = self._changes.get(roots)
        if hit is not None:
            return hit
        difference = comparison.change(self, *roots)
        return self._changes.keep(roots, difference) if len(difference.paths) <= _FEW_PATHS else difference

    def differing(self, old: str, new: str, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> tuple[str, ...]:
        """See `comparison.Trees`. A folder of many is walked through once, however often its two trees are compared."""
        hit = self._differing.get((old, new))
        if hit is not None:
            return hit
        names = comparison.names_that_differ(before, after)
        return self._differing.keep((old, new), names) if len(names) <= _FEW_PATHS else names

    @override
    def added_files(self, commits: Sequence[str]) -> list[AddedFile]:
        return comparison.added_files(self, commits)

    @override
    def first_parent_log(self, tip: str) -> list[Commit]:
        log: list[Commit] = []
        at: str | None = self.rev(tip)
        if at and at not in self._commits:
            self.commits(self.text("rev-list", "--first-parent", at, "--").split())
        while at:
            commit = self.commit(at)
            log.append(commit)
            at = commit.parents[0] if commit.parents else None
        return log[::-1]

    def sha256(self, oid: str) -> str:
        """``sha256:<64 hex>`` of a blob's content, of any size; read once."""
        if oid not in self._digests:
            content = hashlib.sha256()
            for block in self._blocks(oid, "blob", None):
                content.update(block)
            self._digests[oid] = f"sha256:{content.hexdigest()}"
        return self._digests[oid]

    def entries(self, tree: str) -> Mapping[str, Entry]:
        """Name to entry of one folder, sub-folders included (mode `FOLDER`)."""
        hit = self._trees.get(tree)
        return self._trees.keep(tree, *self._read_tree(tree)) if hit is None else hit

    @override
    def folder(self, commit: str, path: str) -> str | None:
        return self.listing(commit).folder(path)

    @override
    def _named(self, name: str, kind: str) -> str | None:
        if not _ID.fullmatch(name):
            return super()._named(name, kind)
        if kind == "commit" and name in self._commits:
            return name
        fact = self._known(name)
        if fact is None or fact[0] == kind:
            return name if fact else None
        if fact[0] not in ("tag", "commit"):
            return None
        fields = self._ask(f"info {name}^{{{kind}}}").split(" ")
        return fields[0] if len(fields) == 3 and fields[1] == kind else None

    @override
    def _find(self, name: str, kind: str) -> str | None:
        with suppress(Ended):
            return self._running().find(name, kind)
        return None

    def _root(self, rev: str) -> str:
        """The tree of a commit, or the tree itself."""
        if _ID.fullmatch(rev) and rev not in self._commits and (fact := self._known(rev)) and fact[0] == "tree":
            return rev
        commit = rev if rev in self._commits else self.rev(rev)
        return self.commit(commit).tree if commit else self.tree(rev) or rev

    def commit(self, oid: str) -> Commit:
        """One commit, read once."""
        if oid not in self._commits:
            data = self._read(oid, "commit")
            links = _COMMIT.match(data)
            if not links:
                raise _damaged(oid, "is not a sound commit")
            message = data.partition(b"\n\n")[2]
            subject = message.lstrip(b"\n").partition(b"\n\n")[0].replace(b"\n", b" ")
            self._commits[oid] = Commit(
                id=oid,
                tree=links[1].decode(),
                parents=tuple(links[2].decode().split()[1::2]),
                subject=subject.decode("utf-8", "replace").strip(),
            )
        return self._commits[oid]

    def commits(self, oids: Sequence[str]) -> list[Commit]:
        """Commits, read together: some at a time, as a long main's are larger unread than read."""
        found: list[Commit] = []
        same = {oid: oid for oid in oids}
        for start in range(0, len(oids), _COMMITS_AT_ONCE):
            some = oids[start : start + _COMMITS_AT_ONCE]
            self.ahead([oid for oid in some if oid not in self._commits], "commit", SMALL)
            for oid in some:
                commit = self.commit(oid)  # a parent's id is one object with its own, which saves a tenth of memory
                self._commits[oid] = commit._replace(parents=tuple(same.get(one, one) for one in commit.parents))
                found.append(self._commits[oid])
        return found

    def _read_tree(self, oid: str) -> tuple[dict[str, Entry], int]:
        """Entries of a folder, and how much they count among those that are remembered."""
        data, width = self._read(oid, "tree"), len(oid) // 2
        large = _LARGE_FOLDERS[0] <= len(data) < _LARGE_FOLDERS[1]
        for at in reversed(range(len(self._large) if large else 0)):
            if parsed := parse_like(data, width, self._large[at]):
                del self._large[at]
                self._large.append(parsed)
                return parsed.listed(), len(data) + _TREE_COSTS
        entries = parse_tree(data, width)
        if entries is None:
            raise _damaged(oid, "is not a sound tree")
        if large:
            self._large = [*self._large[1 - _LARGE_KEPT :], folder_of(data, width, entries)]
        return entries, len(data) + _TREE_COSTS

    def ahead(self, oids: Collection[str], kind: str, most: int) -> Set[str]:
        """Read objects of one kind together that will be asked for soon, none of more than ``most`` bytes.

        What is missing, damaged, larger or of another kind is left to whoever asks for it; those that were read are
        returned.
        """
        oids_read: set[str] = set()
        waiting = [oid for oid in set(oids) if _ID.fullmatch(oid)]
        process = self._running()
        with suppress(Ended):
            for start in range(0, len(waiting), _AT_ONCE):
                some = waiting[start : start + _AT_ONCE]
                process.ask(*(f"info {oid}" for oid in some))
                facts = [process.line().split(" ") for _ in some]
                self._facts |= {fact[0]: (fact[1], int(fact[2])) for fact in facts if len(fact) == 3}
                small = [fact[0] for fact in facts if fact[1] == kind and int(fact[2]) <= most]
                process.ask(*(f"contents {oid}" for oid in small))
                for oid in small:
                    answer = process.line()
                    with suppress(IntegrityFailure, InfrastructureFailure):
                        self._ahead[oid, kind] = b"".join(self._content(oid, kind, answer, most))
                        oids_read.add(oid)
        return oids_read

    def files_ahead(self, oids: Collection[str]) -> None:
        """Read small files together that will be asked for soon; as `ahead`."""
        for oid in self.ahead(oids, "blob", SMALL) if len(oids) <= _MOST_AHEAD else ():
            self._remember({oid: self._ahead.pop((oid, "blob"))})

    def remembers(self, oid: str) -> bool:
        """Whether a commit, a folder or a file need not be read again."""
        return oid in self._commits or oid in self._trees or oid in self._small

    def _read(self, oid: str, kind: str) -> bytes:
        early = self._ahead.pop((oid, kind), None)
        if early is not None:
            return early
        if kind == "tree" and self.sizes([oid])[oid] > LARGEST_FOLDER:
            raise over_limits(f"A folder's list of names is larger than {LARGEST_FOLDER} bytes", comparison.SPLIT)
        return b"".join(self._blocks(oid, kind, LARGEST_BYTES))

    def _blocks(self, oid: str, kind: str, limit: int | None) -> Iterator[bytes]:
        """Content of an object, block by block; raises once all of it was read when it does not fit its id."""
        header = self._ask(f"contents {oid}") if _ID.fullmatch(oid) else ""
        return self._content(oid, kind, header, limit)

    def _content(self, oid: str, kind: str, answer: str, limit: int | None) -> Iterator[bytes]:
        """Bytes that follow the header that git has answered with."""
        header = answer.split(" ")
        if len(header) != 3:
            raise missing_object(oid, "not")
        size = remaining = int(header[2])
        content = hashlib.new("sha1" if len(oid) == 40 else "sha256", usedforsecurity=len(oid) != 40)
        content.update(f"{header[1]} {size}\0".encode())
        while remaining:
            block = self._take(min(remaining, _BLOCK))
            remaining -= len(block)
            content.update(block)
            if limit is None or size <= limit:
                yield block
        self._take(1)
        if header[:2] != [oid, kind] or content.hexdigest() != oid:
            raise _damaged(oid, f"is not the {kind} that its id names")
        if limit is not None and size > limit:
            raise _damaged(oid, f"has {size} bytes, more than is ever read")

    def _ask(self, question: str) -> str:
        """The line that the process answers with; that something is missing is believed of a new one only."""
        process = self._running()
        answer = ""
        with suppress(Ended):
            process.ask(question)
            answer = process.line()
        if process.used and (not answer or answer.endswith(" missing")):
            process.restart()
            return self._ask(question)
        if not answer:
            raise self._ended()
        return answer

    def _take(self, count: int) -> bytes:
        try:
            return self._running().take(count)
        except Ended:
            raise self._ended() from None

    def _running(self) -> CatFile:
        if self._process is None:
            raise self._ended()
        return self._process

    def _ended(self) -> InfrastructureFailure:
        return InfrastructureFailure(
            "git-failed", "git cat-file has ended", "Check that the folder is a git repository that you may read."
        )


def _damaged(oid: str, problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "damaged-object",
        f"Object {oid} {problem}.",
        "Fetch the repository anew from a copy that you trust.",
        object=oid,
    )
