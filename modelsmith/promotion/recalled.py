"""Histories that were folded before: what is kept of them, and their records when somebody asks for one.

What is kept follows from the folder's tree, its place and the policy, so it is what folding them again would give. The
records are read from git by the ids of their files, and held against their digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from typing_extensions import override

from modelsmith.governance.routing import is_link
from modelsmith.governance.states import Link, Outline, SpecialistHistory, record_folder
from modelsmith.repository.git import Git
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import RECORD_FILE, PromotionRecord


class _Records(Sequence[PromotionRecord]):
    """Records of one history, read together when the first is asked for."""

    def __init__(self, git: Git, blobs: Sequence[str], digests: Sequence[str]) -> None:
        self._git = git
        self._blobs = blobs
        self._digests = digests
        self._read: tuple[PromotionRecord, ...] | None = None

    @override
    def __len__(self) -> int:
        return len(self._blobs)

    @overload
    def __getitem__(self, at: int) -> PromotionRecord: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[PromotionRecord, ...]: ...
    @override
    def __getitem__(self, at: int | slice) -> PromotionRecord | tuple[PromotionRecord, ...]:
        if self._read is None:
            contents = self._git.read_blobs(self._blobs)
            if [sha256(contents[blob]) for blob in self._blobs] != [*self._digests]:
                raise IntegrityFailure(
                    "bad-record", "A promotion record is not what it was", "Restore it from history."
                )
            self._read = tuple(PromotionRecord.model_validate_json(contents[blob]) for blob in self._blobs)
        return self._read[at]


def fact_of(tree: Revision, history: SpecialistHistory) -> list[Any]:
    """What is kept of a history that was folded from this tree."""
    records = [
        [record.event, tree.blob(f"{record_folder(record)}/{RECORD_FILE}"), digest]
        for record, digest in zip(history.records, history.digests, strict=True)
    ]
    links = [[one.sequence, one.to_state, one.expected_previous] for one in history.records if is_link(one)]
    known = (history.iteration, history.is_export, history.accepted, history.overridden, history.composite)
    return [history.state, history.artifact, known, records, links]


def recalled(tree: Revision, folder: str, fact: list[Any] | None) -> SpecialistHistory | None:
    """The history of which this is kept; None where nothing is."""
    if fact is None:
        return None
    state, artifact, (iteration, is_export, accepted, overridden, composite), records, links = fact
    _, cluster, specialist = folder.split("/")
    digests = tuple(digest for _, _, digest in records)
    chain = tuple(
        (
            Link(cluster, specialist, sequence, records[sequence - 1][0], to_state, artifact, previous),
            digests[sequence - 1],
        )
        for sequence, to_state, previous in links
    )
    read = _Records(tree.git, [blob for _, blob, _ in records], digests)
    outline = Outline(artifact, iteration, is_export, accepted, overridden, composite, chain)
    return SpecialistHistory(cluster, specialist, state, read, digests, outline)
