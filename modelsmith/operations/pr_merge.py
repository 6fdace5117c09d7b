"""``modelsmith pr merge``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.forges.port import ForgeIdentity
from modelsmith.governance.keys import key_holder
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.promotions import note_advances
from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import Harness, Merger, open_forge, open_harness
from modelsmith.promotion.outrun import close_outrun
from modelsmith.promotion.pulls import merge_pull
from modelsmith.promotion.syncing import sync
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.pull import PullRequest
from modelsmith.signing.ssh import public_key


class PrMergeRequest(Request):
    """Merges when the gate is open, writes the receipts and brings main into this clone; merged already is fine.

    Ends with 4 when an approval is missing, with 3 when a check failed or someone rejected the change.
    """

    number: PullNumber
    key: Annotated[
        Path | None, Field(description="Merge as the holder of this SSH key instead of as the clone's harness.")
    ] = None


class PrMergeResult(Result):
    """The merged pull request, and the commit of main that it became."""

    number: int
    title: str
    merge: str
    """Merge commit."""

    @classmethod
    def of(cls, pull: PullRequest) -> PrMergeResult:
        """Result for a pull request that is merged."""
        assert pull.merge is not None
        return cls(number=pull.number, title=pull.title, merge=pull.merge)


def run(workspace: Workspace, request: PrMergeRequest) -> PrMergeResult:
    """Merge a pull request that the gate lets in."""
    merger = open_merger(workspace, request.key)
    pull = merge_pull(merger, request.number)
    after_merges(merger)
    return PrMergeResult.of(pull)


def after_merges(merger: Merger) -> None:
    """Note what main says now in this clone's ledger; the harness closes what it has made pointless."""
    main = read_governed_state(merger.workspace.git, sync(merger))
    note_advances(ledger_of(merger.workspace), main)
    if isinstance(merger, Harness):
        close_outrun(merger, main)


def open_merger(workspace: Workspace, key: Path | None) -> Merger:
    """Open the merger: the holder of the key, else the clone's harness.

    Raises:
        InvalidInput: ``no-harness``, ``no-forge``.
        IntegrityFailure: as `key_holder`.
    """
    if key is None:
        return open_harness(workspace)
    main = open_forge(workspace).fetch_into(workspace.git)
    actor = key_holder(read_governed_state(workspace.git, main).people, public_key(key), datetime.now(UTC))
    return Merger(workspace, actor, open_forge(workspace, ForgeIdentity(actor, key)), key)
