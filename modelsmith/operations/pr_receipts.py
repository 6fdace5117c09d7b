"""``modelsmith pr receipts``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.operations.contract import Request, Result
from modelsmith.operations.pr_merge import PrMergeResult, after_merges, open_merger
from modelsmith.promotion.receipting import add_missing_receipts
from modelsmith.promotion.syncing import sync
from modelsmith.repository.workspace import Workspace


class PrReceiptsRequest(Request):
    """Adds the receipts of merges that the forge made by itself: by its button, or by its queue.

    Each is judged as it was made: what was merged past the gate gets no receipts, and the command ends with 5. With a
    forge of your own there is never one: merge and receipts are a single push.
    """

    key: Annotated[
        Path | None, Field(description="Sign as the holder of this SSH key instead of as the clone's harness.")
    ] = None


class PrReceiptsResult(Result):
    """The pull requests whose merges have receipts now and had none before, oldest merge first."""

    pulls: tuple[PrMergeResult, ...]


def run(workspace: Workspace, request: PrReceiptsRequest) -> PrReceiptsResult:
    """Add the receipts that main waits for."""
    merger = open_merger(workspace, request.key)
    pulls = add_missing_receipts(merger, sync(merger))
    if pulls:
        after_merges(merger)
    return PrReceiptsResult(pulls=tuple(PrMergeResult.of(pull) for pull in pulls))
