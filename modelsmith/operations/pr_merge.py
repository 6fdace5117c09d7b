"""``modelsmith pr merge``."""

from __future__ import annotations

from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.pulls import merge_pull
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
    pull = merge_pull(open_harness(workspace), request.number)
    assert pull.merge is not None
    return PrMergeResult(number=pull.number, title=pull.title, merge=pull.merge)
