"""Receipts: what decided a merge, as files that the next record covers. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from modelsmith.governance.gate import GateDecision
from modelsmith.promotion.histories import PROMOTIONS, RECEIPTS
from modelsmith.promotion.openings import opening_files
from modelsmith.promotion.root import GOVERNANCE
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import GateNotCleared
from modelsmith.schema.plaintext import first_unwelcome
from modelsmith.schema.promotion import Receipt
from modelsmith.schema.pull import Change, PullRequest

MERGE_RECEIPT = "merge.json"
MERGE_SIGNATURE = "merge.json.sig"


class Merged(NamedTuple):
    """The merge that receipts speak of."""

    commit: str
    by: str
    at: datetime


def receipts_folder(change: Change, pull: int) -> str:
    """Where the receipts of a change lie: in the promotion's own folder, else among governance's receipts.

    There the folder is named by pull request and change: a change that was merged, reverted and proposed again is
    decided again, and a number is used once.
    """
    for path in change.paths:
        parts = path.path.split("/")
        if parts[0] == PROMOTIONS and len(parts) > 4:
            return "/".join([*parts[:4], RECEIPTS])
    return f"{GOVERNANCE}/{RECEIPTS}/{pull}-{change.digest().removeprefix('sha256:')[:16]}"


def signed_name(actor: str) -> str:
    """Name of the receipt that holds an actor's signed approval; its signature lies beside it as ``.sig``."""
    return f"approval-{actor}.json"


def attested_name(actor: str) -> str:
    """Name of the receipt that holds the attestation of the reviews at a forge, an actor's approval among them."""
    return f"attested-{actor}.sigstore.json"


def proof_files(actor: str, name: str) -> tuple[str, ...]:
    """Names of the files that prove an approval, by the name that the receipt gives; none for any other name."""
    if name == signed_name(actor):
        return name, f"{name}.sig"
    return (name,) if name == attested_name(actor) else ()


def receipt_files(
    pull: PullRequest,
    change: Change,
    decision: GateDecision,
    merged: Merged,
    sign: Callable[[bytes], bytes],
) -> dict[str, bytes]:
    """Path and content of every receipt of a merge; equal inputs give equal bytes.

    ``sign`` gives the merger's signature of the receipt.

    Raises:
        GateNotCleared: ``odd-receipt`` when one would not be plain text: no clone could verify main after it.
    """
    folder = receipts_folder(change, pull.number)
    files = opening_files(folder, pull)
    approvals: dict[str, str] = {}
    for review in decision.approvals:
        if review.proof:
            name = approvals[review.actor] = signed_name(review.actor)
            files[f"{folder}/{name}"] = review.proof.statement.encode()
            files[f"{folder}/{name}.sig"] = review.proof.signature.encode()
        else:
            assert review.attestation
            name = approvals[review.actor] = attested_name(review.actor)
            files[f"{folder}/{name}"] = review.attestation.encode()
    receipt = Receipt(
        pull=pull.number,
        change=change.digest(),
        merge=merged.commit,
        merged_by=merged.by,
        at=merged.at,
        gate=decision.gate,
        requested_by=pull.requester,
        prepared_by=pull.preparer,
        checks=tuple(check.name for check in decision.checks),
        approvals=approvals,
    )
    files[f"{folder}/{MERGE_RECEIPT}"] = canonical_json(receipt)
    for path, data in files.items():
        if path.endswith(".json") and (odd := first_unwelcome(data.decode())):
            raise GateNotCleared(
                "odd-receipt",
                f"The receipt {path.rpartition('/')[2]} would hold {odd.name}, and nobody could verify main after it.",
                "Take the character out of what it says, and propose or approve again.",
                path=path,
            )
    files[f"{folder}/{MERGE_SIGNATURE}"] = sign(canonical_json(receipt))
    return files
