"""Histories that were folded before: what is kept of them, and their records when somebody asks for one.

What is kept follows from the folder's tree, its place and the policy, so it is what folding them again would give. The
records are read from git by the ids of their files, and held against their digests.

A history that is carried through a replay is kept in the same way: main has thousands, and the records of few are asked
for again.
"""

from __future__ import annotations

import json
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, overload

from typing_extensions import override

from modelsmith.governance.routing_chain import is_link
from modelsmith.governance.states import Link, Outline, SpecialistHistory, record_folder
from modelsmith.repository.git import Git
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import RECORD_FILE, PromotionRecord

_MOST_HELD = 64
"""Histories of which this process holds the records that were read: about 2 MB of memory."""
_held: deque[weakref.ref[_Records]] = deque()
"""Those, the latest read last."""


class _Records(Sequence[PromotionRecord]):
    """Records of one history, read together when one is asked for and they are not held.

    Concurrency: as the reader that they come from, while its block lasts; several threads after that.
    """

    def __init__(self, git: Git, blobs: Sequence[str], digests: Sequence[str]) -> None:
        self._git = git
        self._blobs = blobs
        self._digests = digests
        self._read: tuple[PromotionRecord, ...] | None = None

    def hold(self, records: tuple[PromotionRecord, ...]) -> tuple[PromotionRecord, ...]:
        """Hold the records until those of many other histories were read."""
        self._read = records
        _held.append(weakref.ref(self))
        while len(_held) > _MOST_HELD:
            with suppress(IndexError):  # another thread may have taken the last
                if (oldest := _held.popleft()()) is not None:
                    oldest._read = None
        return records

    @override
    def __len__(self) -> int:
        return len(self._blobs)

    @overload
    def __getitem__(self, at: int) -> PromotionRecord: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[PromotionRecord, ...]: ...
    @override
    def __getitem__(self, at: int | slice) -> PromotionRecord | tuple[PromotionRecord, ...]:
        records = self._read
        return (self.hold(self._from_git()) if records is None else records)[at]

    def _from_git(self) -> tuple[PromotionRecord, ...]:
        git = self._git
        if isinstance(git, ObjectReader) and not git.is_open:
            git = Git(git.path)
        contents = git.read_blobs(self._blobs)
        if [sha256(contents[blob]) for blob in self._blobs] != [*self._digests]:
            raise IntegrityFailure("bad-record", "A promotion record is not what it was", "Restore it from history.")
        return tuple(PromotionRecord.model_validate_json(contents[blob]) for blob in self._blobs)


def fact_of(tree: Revision, history: SpecialistHistory) -> list[Any]:
    """The fact that is kept of a history that was folded from this tree."""
    events = [record.event for record in history.records]
    blobs = [tree.blob(f"{record_folder(record)}/{RECORD_FILE}") for record in history.records]
    links = [
        [record.sequence, record.to_state, record.expected_previous] for record in history.records if is_link(record)
    ]
    facts = (history.iteration, history.is_export, history.accepted, history.overridden, history.composite)
    return [history.state, history.artifact, facts, events, blobs, [*history.digests], links]


def known_digests(fact: list[Any]) -> tuple[str, ...]:
    """Digests of the records of a history that a fact remembers."""
    return tuple(fact[5])


def recalled(tree: Revision, folder: str, fact: list[Any] | None) -> SpecialistHistory | None:
    """The history that this fact remembers; None without a fact."""
    if fact is None:
        return None
    state, artifact, (iteration, is_export, accepted, overridden, composite), events, blobs, digest_list, links = fact
    _, cluster, specialist = folder.split("/")
    digests = tuple(digest_list)
    chain = tuple([
        (Link(cluster, specialist, at, events[at - 1], to_state, artifact, previous), digest_list[at - 1])
        for at, to_state, previous in links
    ])  # fmt: skip
    records = _Records(tree.git, blobs, digests)
    outline = Outline(artifact, iteration, is_export, accepted, overridden, composite, chain)
    return SpecialistHistory(cluster, specialist, state, records, digests, outline)


def recalled_later(tree: Revision, folder: str, fact: str) -> SpecialistHistory:
    """`recalled` from a fact as it is kept, which is parsed when somebody asks what the history says."""
    _, cluster, specialist = folder.split("/")

    def read() -> SpecialistHistory:
        found = recalled(tree, folder, json.loads(fact))
        assert found
        return found

    return SpecialistHistory.unread(cluster, specialist, read)


def kept_light(tree: Revision, history: SpecialistHistory) -> SpecialistHistory:
    """A history that was folded from this tree, as `recalled` gives it: its records stay in memory only for a while."""
    folder = f"promotions/{history.cluster}/{history.specialist}"
    light = recalled(tree, folder, fact_of(tree, history))
    assert light
    assert isinstance(light.records, _Records)
    light.records.hold(tuple(history.records))
    return light
