"""The one clock that replay has: the latest time that somebody has signed in what history has merged."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from pydantic import ValidationError

from modelsmith.promotion.attestation import claimed
from modelsmith.promotion.history import PROMOTIONS, RECEIPTS
from modelsmith.promotion.openings import OPENING
from modelsmith.promotion.root import GOVERNANCE
from modelsmith.repository.tree import Tree, read_each
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import Approval
from modelsmith.schema.pull import PullEvent

_PROOF = re.compile(
    r"/receipts/(?:[0-9a-f]{16}(?:-[0-9]+)?/)?(?:approval-[^/]+\.json|attested-[^/]+\.sigstore\.json|opened\.json)$"
)
BEGINNING = datetime.fromtimestamp(0, UTC)


def latest_signed(tree: Tree) -> datetime:
    """Latest time of an approval or opening among the receipts of a tree; `BEGINNING` without any.

    A merge is not before it, whatever the clock of the machine says: so a clock set back, or an approval dated back,
    revives no key that had ended by what history has seen.

    Raises:
        IntegrityFailure: ``bad-receipt``.
    """
    below = [path for top in (PROMOTIONS, f"{GOVERNANCE}/{RECEIPTS}") for path in tree.paths(top)]
    paths = [path for path in below if _PROOF.search(path)]
    contents, refused = read_each(tree, paths)
    for error in refused.values():
        raise error
    return max((signed_at(path, data) for path, data in contents.items()), default=BEGINNING)


def signed_at(path: str, data: bytes) -> datetime:
    """The time that was signed in a receipt: an approval, an attestation or an opening.

    Raises:
        IntegrityFailure: ``bad-receipt``.
    """
    try:
        name = path.rpartition("/")[2]
        if name == OPENING:
            return PullEvent.model_validate_json(data).at
        return claimed(data).at if name.startswith("attested-") else Approval.model_validate_json(data).at
    except (ValidationError, IntegrityFailure):
        raise IntegrityFailure("bad-receipt", f"{path} cannot be read", "Restore it from history.") from None
