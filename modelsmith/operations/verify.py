"""``modelsmith verify``: replay everything, trust nothing but the root."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.operations.contract import Request, Result
from modelsmith.promotion.main import read_main
from modelsmith.promotion.verify import check_weights, replay
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure


class VerifyRequest(Request):
    """Judges every change of main again, offline: signatures, approvals, receipts, folds, routing, and the gate's
    arithmetic from each verdict of the evidence. It needs no forge and trusts no hook and no merge commit.

    Pin the governance root with --root, from a source other than this clone; without it, the first commit is trusted.
    Artifacts in the store are checked against their id and signature; the others are reported as not checked.
    """

    root: Annotated[str | None, Field(description="Fingerprint of the governance root that you trust.")] = None
    revision: Annotated[str, Field(description="Commit or branch to verify.")] = "main"


class VerifyResult(Result):
    """What held."""

    verified: bool
    root: str
    pinned: bool
    """Whether the root was given from outside."""
    tip: str
    changes: int
    promotions: int
    approvals: int
    weights: dict[str, str]
    """Specialist -> ``checked`` or ``not checked``."""


def run(workspace: Workspace, request: VerifyRequest) -> VerifyResult:
    """Replay; the first thing that does not hold ends it with exit code 5."""
    git = workspace.git
    tip = git.rev(request.revision)
    if tip is None:
        raise IntegrityFailure("no-history", f"There is no commit '{request.revision}'", "Commit or fetch it first.")
    found = replay(git, tip, request.root, workspace.notify)
    main = read_main(git, tip)
    clusters = {life.cluster for life in main.history.lives.values()}
    stores = {name: workspace.store(load_cluster(main.tree, name).store) for name in clusters}
    return VerifyResult(
        verified=True,
        root=found.root,
        pinned=request.root is not None,
        tip=tip,
        changes=found.changes,
        promotions=found.promotions,
        approvals=found.approvals,
        weights=check_weights(main, stores),
    )
