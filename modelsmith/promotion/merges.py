"""Who signed for a merge. A commit's id covers all that came before it, so this is also the tip of main, signed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from modelsmith.governance.keys import CLOCK_TOLERANCE, key_doubt
from modelsmith.governance.people import listed_keys
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.receipts import MERGE_RECEIPT, MERGE_SIGNATURE, Merged
from modelsmith.schema.canonical import parse_canonical
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure
from modelsmith.schema.promotion import MERGE_NAMESPACE, Receipt
from modelsmith.signing import ssh


def check_merge(main: GovernedState, receipt: Receipt, merge: str, payload: bytes, signature: str) -> None:
    """Refuse a receipt unless a listed actor, with a key that counts, has signed that it is of this very merge.

    Args:
        main: What governed before the merge.
        receipt: What the payload says.
        merge: Id of the merge commit.
        payload: The receipt exactly as signed.
        signature: Armored signature of it.

    Raises:
        IntegrityFailure: ``unproven-merge``, or as `ssh.verify`.
    """
    if receipt.merge != merge:
        raise _unproven(f"its receipt was signed for another merge, {receipt.merge[:12]}")
    keys = [ssh.AllowedKey(*key) for key in listed_keys(main.people)]
    signer, key = ssh.verify(payload, signature, MERGE_NAMESPACE, keys)
    if signer != receipt.merged_by:
        raise _unproven(f"its receipt says that {receipt.merged_by} merged it, and {signer} signed that")
    doubt = key_doubt(main.people, signer, key, receipt.at, None)
    if doubt:
        raise _unproven(f"the receipt of its merge proves nothing: {doubt}")


def adopt_merge(
    main: GovernedState, folder: str, merge: str, pushed: Mapping[str, bytes], now: datetime
) -> tuple[Merged, bytes]:
    """Who merged, when, and their signature, as pushed: the judge of a merge cannot sign for the merger.

    Raises:
        GateNotCleared: ``wrong-receipts`` when the receipt or its signature is missing, ``wrong-time`` for one that is
            not of the present.
        IntegrityFailure: as `check_merge`, or ``bad-file``.
    """
    path = f"{folder}/{MERGE_RECEIPT}"
    payload, signature = pushed.get(path), pushed.get(f"{folder}/{MERGE_SIGNATURE}")
    if payload is None or signature is None:
        mend = "Merge with `modelsmith pr merge`."
        raise GateNotCleared("wrong-receipts", "Nobody has signed for this merge.", mend, path=path)
    receipt = parse_canonical(path, payload, Receipt)
    if abs(receipt.at - now) > CLOCK_TOLERANCE:
        raise GateNotCleared("wrong-time", "The merge's time is not the present.", "Set the clock and try again.")
    check_merge(main, receipt, merge, payload, signature.decode("utf-8", "replace"))
    return Merged(receipt.merge, receipt.merged_by, receipt.at), signature


def _unproven(problem: str) -> IntegrityFailure:
    return IntegrityFailure("unproven-merge", problem, "Compare with a clone that verifies.")
