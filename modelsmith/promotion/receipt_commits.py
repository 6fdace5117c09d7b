"""Commits of main that add receipts, and the steps that they speak of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.load import load_machine_file
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import Receipt
from modelsmith.schema.pull import ChangedPath


class Receipts(NamedTuple):
    """A commit that adds receipts, and where."""

    commit: Commit
    added: tuple[ChangedPath, ...]
    folder: str
    receipt: Receipt


def read_receipts(git: Git, commit: Commit) -> Receipts | None:
    """What a commit adds as receipts, None for one that adds none; whether they are in their place is not asked."""
    if len(commit.parents) != 1:
        return None
    added = git.change(commit.parents[0], commit.id).paths
    folder = next((path.path.rpartition("/")[0] for path in added if path.path.endswith(f"/{MERGE_RECEIPT}")), None)
    if folder is None:
        return None
    receipt = load_machine_file(Revision(git, commit.id), f"{folder}/{MERGE_RECEIPT}", Receipt)
    return Receipts(commit, added, folder, receipt)


class ReceiptCommits:
    """Finds the receipts of each of some steps among those that come after it. Each commit is read once."""

    def __init__(self, git: Git, steps: Sequence[Commit]) -> None:
        self._git, self._steps = git, steps
        self._read = 0
        """How many steps were looked at."""
        self._waiting: dict[str, Receipts] = {}
        """Receipts of which nobody has asked yet, by the step that they speak of; the earliest of each."""

    def of(self, at: int) -> Receipts | None:
        """The first receipts after the step at an index that speak of it; ask in the order of the steps."""
        step = self._steps[at]
        self._read = max(self._read, at + 1)
        while step.id not in self._waiting and self._read < len(self._steps):
            with suppress(IntegrityFailure):
                receipts = read_receipts(self._git, self._steps[self._read])
                if receipts:
                    self._waiting.setdefault(receipts.receipt.merge, receipts)
            self._read += 1
        return self._waiting.pop(step.id, None)
