"""Receipts: what decided a merge, as files that the next record covers. Pure."""

from __future__ import annotations

from modelsmith.governance.gate import GateDecision
from modelsmith.promotion.history import PROMOTIONS, RECEIPTS
from modelsmith.promotion.root import GOVERNANCE
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import Receipt
from modelsmith.schema.pull import Change, PullRequest

MERGE_RECEIPT = "merge.json"


def receipts_folder(change: Change) -> str:
    """Where the receipts of a change lie: in the promotion's own folder, else among governance's receipts."""
    for path in change.paths:
        parts = path.path.split("/")
        if parts[0] == PROMOTIONS and len(parts) > 4:
            return "/".join([*parts[:4], RECEIPTS])
    return f"{GOVERNANCE}/{RECEIPTS}/{change.digest().removeprefix('sha256:')[:16]}"


def receipt_files(pull: PullRequest, change: Change, decision: GateDecision) -> dict[str, bytes]:
    """Path and content of every receipt of a merge; equal inputs give equal bytes."""
    folder = receipts_folder(change)
    files: dict[str, bytes] = {}
    approvals: dict[str, str] = {}
    for review in pull.reviews:
        if review.actor in decision.approvers and review.proof and review.change == change.digest():
            name = f"approval-{review.actor}.json"
            approvals[review.actor] = name
            files[f"{folder}/{name}"] = review.proof.statement.encode()
            files[f"{folder}/{name}.sig"] = review.proof.signature.encode()
    receipt = Receipt(
        pull=pull.number,
        change=change.digest(),
        gate=decision.gate,
        requested_by=pull.requester,
        prepared_by=pull.preparer,
        checks=tuple(check.name for check in decision.checks),
        approvals=approvals,
    )
    files[f"{folder}/{MERGE_RECEIPT}"] = canonical_json(receipt)
    return files
