"""Approvals that a forge authenticated by login, attested by the harness: their form, and what it takes to count.

The harness's word stands for the forge's: policy must list the forge, the signature must be by a key of the trust
root, and the login must be one person's in people.yaml, all on the main that was merged into.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelsmith.governance.people import login_holder
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure
from modelsmith.schema.promotion import ATTESTATION_TYPE, Approval, Attestation
from modelsmith.schema.pull import ForgeReview, Review
from modelsmith.signing.dsse import holds, parse_statement, peek, statement, unseal

SUBJECT = "change"


def attestation(review: Review, repository: str, pull: int) -> dict[str, Any]:
    """The statement that the harness seals about an approval without a signature of its own."""
    assert review.source
    said = Attestation(
        repository=repository,
        pull=pull,
        change=review.change,
        verdict="approve",
        forge=review.source.forge,
        login=review.source.login,
        review=review.source.review,
        at=review.at,
    )
    return statement(SUBJECT, review.change, ATTESTATION_TYPE, said.model_dump(mode="json"))


def adopt(path: str, said: Mapping[str, Any], pushed: Mapping[str, bytes], main: GovernedState) -> bytes:
    """The attestation that was pushed, when it says exactly this under a key of the trust root.

    Signatures are drawn at random, so whoever judges a merge checks the one that was made instead of making one.

    Raises:
        GateNotCleared: ``wrong-receipts``.
    """
    bundle = pushed.get(path)
    if bundle is None or not holds(bundle, said, main.trusted):
        raise GateNotCleared(
            "wrong-receipts",
            f"{path} does not attest what the forge said, by a trusted key.",
            "Merge with `modelsmith pr merge` as the harness.",
            path=path,
        )
    return bundle


def attested_review(bundle: bytes, main: GovernedState, pull: int, change: str) -> Review:
    """The approval that a receipt attests, as the people of ``main`` read it.

    Raises:
        IntegrityFailure: as `unseal`; ``bad-attestation`` for another repository, pull request or change, or a login
            that is nobody's.
    """
    try:
        said = Attestation.model_validate_json(_predicate(unseal(bundle, main.trusted, change, ATTESTATION_TYPE)))
    except ValueError:
        raise _bad("cannot be read") from None
    if (said.repository, said.pull, said.change) != (main.policy.repository, pull, change):
        raise _bad("is of another pull request or repository")
    actor = login_holder(main.people, said.forge, said.login)
    if actor is None:
        raise _bad(f"names {said.login} at {said.forge}, who is nobody in people.yaml")
    source = ForgeReview(forge=said.forge, login=said.login, review=said.review)
    return Review(actor=actor, verdict=said.verdict, change=said.change, at=said.at, source=source)


def approved_at(path: str, data: bytes) -> datetime:
    """The time that was signed in a receipt of an approval or its attestation.

    Raises:
        IntegrityFailure: ``bad-receipt``.
    """
    attested = path.rpartition("/")[2].startswith("attested-")
    try:
        return claimed(data).at if attested else Approval.model_validate_json(data).at
    except (ValueError, IntegrityFailure):
        raise IntegrityFailure("bad-receipt", f"{path} cannot be read", "Restore it from history.", path=path) from None


def claimed(bundle: bytes) -> Attestation:
    """What a bundle says, **whoever sealed it**.

    Raises:
        IntegrityFailure: ``not-a-bundle``, ``bad-attestation``.
    """
    try:
        return Attestation.model_validate_json(_predicate(parse_statement(peek(bundle)).predicate))
    except ValueError:
        raise _bad("cannot be read") from None


def _predicate(predicate: Mapping[str, Any]) -> bytes:
    return canonical_json(dict(predicate))


def _bad(what: str) -> IntegrityFailure:
    return IntegrityFailure("bad-attestation", f"An attested approval {what}.", "Compare with a clone that verifies.")
