"""Which steps of main no receipts speak of yet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from modelsmith.promotion.judging import ROOT_SETTING
from modelsmith.promotion.receipt_commits import read_receipts
from modelsmith.promotion.root import find_root
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure, InvalidInput


def unreceipted_steps(workspace: Workspace, tip: str) -> list[Commit]:
    """Steps of main after the last one with receipts that have none, oldest first; what receipts say is for `verify`.

    Raises:
        IntegrityFailure: ``unknown-root`` where main has no receipts at all, and not the root that this clone pins.
    """
    git = workspace.git
    log = git.first_parent_log(tip)
    listed: set[str] = set()
    steps: list[Commit] = []
    for commit in reversed(log):
        if commit.id in listed:
            return steps[::-1]
        merge = _receipts_for(git, commit)
        if merge is None:
            steps.append(commit)
        else:
            listed.add(merge)
    return _after_root(workspace, log, steps[::-1])


def _receipts_for(git: Git, commit: Commit) -> str | None:
    """The merge that a commit gives receipts for, where it brings receipts alone."""
    with suppress(IntegrityFailure, InvalidInput, ValueError):  # a step may remove receipts, or hold what is none
        receipts = read_receipts(git, commit)
        if receipts and all(path.path.startswith(f"{receipts.folder}/") for path in receipts.added):
            return receipts.receipt.merge
    return None


def _after_root(workspace: Workspace, log: Sequence[Commit], steps: Sequence[Commit]) -> list[Commit]:
    with ObjectReader(workspace.root) as git:
        begin, _ = find_root(git, log, workspace.setting(ROOT_SETTING))
    ungoverned = {commit.id for commit in log[: begin + 1]}
    return [commit for commit in steps if commit.id not in ungoverned]
