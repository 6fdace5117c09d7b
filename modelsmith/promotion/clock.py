"""What main itself knows of time and numbers: when its merges were signed for, and which pull requests they spent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import ValidationError

from modelsmith.forges.receipted import is_receipt, signed_on
from modelsmith.governance.keys import CLOCK_TOLERANCE
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.tree import Tree, read_each
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import Receipt

BEGINNING = datetime.fromtimestamp(0, UTC)
_AT_ONCE = 256
"""Receipts that are in memory together: of each, its time and number are kept."""


class Signed(NamedTuple):
    """Summary of all merges so far, by the receipts of a tree."""

    latest: datetime
    """Latest time of a merge; `BEGINNING` without any. Replay allows nothing in a merge's receipts to be dated later
    than the merge itself, so no opening or approval on main is later."""
    pulls: frozenset[int]
    """Numbers of the merged pull requests."""


def read_signed(tree: Tree, facts: KeptFacts | None = None) -> Signed:
    """The times and numbers of a tree's merge receipts.

    A merge is not before the latest, whatever the clock of the machine says: so a clock set back, or an approval dated
    back, revives no key that had ended by what history has seen.

    Raises:
        IntegrityFailure: ``bad-receipt``.
    """
    signed = signed_on(tree, facts)
    latest, pulls = datetime.fromtimestamp(signed.latest, UTC), signed.pulls
    paths = [*filter(is_receipt, signed.left)]
    for start in range(0, len(paths), _AT_ONCE):
        contents, refused = read_each(tree, paths[start : start + _AT_ONCE])
        for error in refused.values():
            raise error
        receipts = [_receipt(path, data) for path, data in contents.items()]
        latest = max([latest, *(receipt.at for receipt in receipts)])
        pulls |= {receipt.pull for receipt in receipts}
    return Signed(latest, frozenset(pulls))


def check_times(receipt: Receipt, times: Sequence[datetime], latest: datetime, now: datetime) -> None:
    """Bound what a merge's receipts date: by the verifier's present, by the merge's own time, by the merges before it.

    So a date far ahead is refused as long as it lies ahead, and is never the clock of what comes after. Each bound
    leaves room for two clocks that differ from the forge's by the tolerance.

    Args:
        receipt: What was signed about the merge.
        times: When its opening and its approvals were signed.
        latest: Time of the latest merge before it.
        now: The verifier's present.

    Raises:
        IntegrityFailure: ``from-the-future`` or ``out-of-order``.
    """
    room = 2 * CLOCK_TOLERANCE
    ahead = max([receipt.at, *times])
    if ahead > now + room:
        problem = f"holds something signed at {_words(ahead)}, which has not come yet by this machine's clock"
        raise IntegrityFailure("from-the-future", problem, "Set the clock; if it is right, do not trust main.")
    doubts = (
        (ahead > receipt.at + room, f"holds something signed at {_words(ahead)}, after its merge at "),
        (receipt.at < latest - room, f"comes after a merge at {_words(latest)}, but was merged at "),
    )
    for doubt, sentence in doubts:
        if doubt:
            raise IntegrityFailure("out-of-order", sentence + _words(receipt.at), "Compare with a clone that verifies.")


def _words(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _receipt(path: str, data: bytes) -> Receipt:
    try:
        return Receipt.model_validate_json(data)
    except ValidationError:
        raise IntegrityFailure("bad-receipt", f"{path} cannot be read", "Restore it from history.", path=path) from None
