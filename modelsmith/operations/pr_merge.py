"""``modelsmith pr merge``."""

from __future__ import annotations

from modelsmith.loop.evals import ledger_of
from modelsmith.loop.promotions import note_advances
from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.main import read_main
from modelsmith.promotion.pulls import merge_pull, sync
from modelsmith.repository.workspace import Workspace


class PrMergeRequest(Request):
    """Merges when the gate is open, writes the receipts and brings main into this clone; merged already is fine.

    Ends with 4 when an approval is missing, with 3 when a check failed or someone rejected the change.
    """

    number: PullNumber


class PrMergeResult(Result):
    """Where it landed."""

    number: int
    title: str
    merge: str
    """Merge commit."""


def run(workspace: Workspace, request: PrMergeRequest) -> PrMergeResult:
    """Merge it."""
    harness = open_harness(workspace)
    pull = merge_pull(harness, request.number)
    assert pull.merge is not None
    note_advances(ledger_of(workspace), read_main(workspace.git, sync(harness)))
    return PrMergeResult(number=pull.number, title=pull.title, merge=pull.merge)
