"""Reviews at a forge, attested by a workflow of main: what is signed, and what it takes to count.

GitHub's word about a review is not a signature of the person. A workflow whose file lies on main reads the reviews
through GitHub's interface and signs what it read by its own identity (`modelsmith.signing.keyless`). Policy names that
workflow (`attested_forges`), people.yaml whose account it is. Then a review counts because GitHub's identity for main's
workflow said so; no key of the harness can say it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from modelsmith.governance.keys import CLOCK_TOLERANCE
from modelsmith.governance.people import account_holder, is_harness
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.root import GOVERNANCE
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.schema.governance import People
from modelsmith.schema.promotion import ATTESTATION_TYPE, Approval, AttestedReview, ReviewsAttestation
from modelsmith.schema.pull import ForgeReview, PullRequest, Review
from modelsmith.schema.workflows import SignedBy
from modelsmith.signing.dsse import peek, statement, unseal_keyless
from modelsmith.signing.keyless import Believed
from modelsmith.signing.wire import parse_statement

SUBJECT = "change"
FORGE = "github"
"""How people.yaml and attestations call the forge whose reviews are heard."""
_VERDICTS = {"APPROVED": "approve", "CHANGES_REQUESTED": "reject"}


class Attested(NamedTuple):
    """An attestation that was verified."""

    attestation: ReviewsAttestation
    by: SignedBy
    hours: int
    """How long its approvals count."""
    bundle: str
    """Exactly as it was signed."""


def attestation(claim: ReviewsAttestation) -> dict[str, object]:
    """The statement that the workflow signs."""
    return statement(SUBJECT, claim.change, ATTESTATION_TYPE, claim.model_dump(mode="json"))


def claimed(bundle: bytes) -> ReviewsAttestation:
    """The claim in a bundle, **whoever sealed it**.

    Raises:
        IntegrityFailure: ``not-a-bundle``, ``bad-attestation``.
    """
    try:
        return ReviewsAttestation.model_validate_json(canonical_json(parse_statement(peek(bundle)).predicate))
    except ValueError:
        raise _bad("cannot be read") from None


def read_attestation(bundle: bytes, main: GovernedState, line: Collection[str]) -> Attested:
    """An attestation by a workflow that main believes, once everything holds that does not hang on a pull request.

    The job's commit is one of main, and the workflow's file there is the one that main has now. So neither a main that
    was there for a moment, nor a run of long ago that somebody starts again with the file as it was then, says
    anything.

    Args:
        bundle: The attestation as it was signed.
        main: Who is believed.
        line: Commits of this main along its first parents.

    Raises:
        IntegrityFailure, InvalidInput: ``bad-attestation``; as `unseal_keyless`.
        InfrastructureFailure: ``extra-missing``.
    """
    claim = claimed(bundle)
    refusal: ModelsmithError = _bad(f"is of {claim.forge}, of which policy believes no workflow")
    for workflow in main.policy.attested_forges:
        if workflow.forge != claim.forge:
            continue
        believed = Believed(workflow, main.tree.read(f"{GOVERNANCE}/trust/{workflow.trust}"))
        try:
            _, by = unseal_keyless(bundle, believed, claim.change, ATTESTATION_TYPE)
        except (IntegrityFailure, InvalidInput) as error:
            refusal = error
            continue
        if (claim.hosted, claim.hosted_id) != (workflow.repository, workflow.repository_id):
            raise _bad(f"is of {claim.hosted} ({claim.hosted_id})")
        if claim.repository != main.policy.repository:
            raise _bad(f"is of repository {claim.repository}")
        if by.commit != claim.base:
            raise _bad("names another main than its run's")
        if claim.base not in line:
            raise _bad(f"was made on a main that is no more ({claim.base[:12]})")
        if not main.tree.exists(workflow.workflow) or main.tree.read(workflow.workflow) != Revision(
            main.tree.git, claim.base
        ).read(workflow.workflow):
            raise _bad(f"was made by {workflow.workflow} as main does not have it now; let it run again")
        if not by.not_before - CLOCK_TOLERANCE <= claim.read_at <= by.not_after + CLOCK_TOLERANCE:
            raise _bad("says another time than its certificate")
        return Attested(claim, by, workflow.hours, bundle.decode())
    raise refusal


def newest(main: GovernedState, pull: PullRequest) -> tuple[Attested | None, tuple[str, ...]]:
    """The attestation of a pull request that was read last among those that hold, and why others do not.

    What GitHub said before is superseded: a review may have been dismissed since. Of two that were read within one
    second, the one that approves less and objects more counts as later. Anybody who may push can put one of another
    pull request into this one's log; it supersedes nothing here.
    """
    doubts: list[str] = []
    readable = []
    for bundle in pull.attested:
        try:
            claim = claimed(bundle.encode())
        except IntegrityFailure as error:
            doubts.append(error.message)
            continue
        if claim.pull == pull.number:
            states = [review.state for review in claim.reviews]
            approvals = states.count("APPROVED")
            readable.append(((claim.read_at, -approvals, len(states) - approvals), bundle))
        else:
            doubts.append(_bad(f"is of pull request {claim.pull}").message)
    for _, bundle in sorted(readable, key=lambda item: item[0], reverse=True):
        try:
            return read_attestation(bundle.encode(), main, main.line), tuple(doubts)
        except (IntegrityFailure, InvalidInput) as error:
            doubts.append(error.message)
    return None, tuple(doubts)


def verdicts(attested: Attested, main: GovernedState) -> tuple[tuple[Review, ...], tuple[str, ...]]:
    """What the people of main have said, by the last opinion of each account; and why that of others is nothing.

    Asking for changes holds whatever commit it was about. An approval is of the very commit that was opened.
    """
    reviews: list[Review] = []
    notes: list[str] = []
    for last in _last(attested.attestation.reviews):
        verdict = _VERDICTS.get(last.state)
        if verdict is None:
            continue
        actor = account_holder(main.people, attested.attestation.forge, last.login, last.account)
        doubt = _doubt(last, verdict, attested.attestation, actor)
        if doubt or actor is None:
            notes.append(f"The review of {last.login} (account {last.account}) does not count: {doubt}.")
            continue
        source = ForgeReview(
            forge=attested.attestation.forge,
            login=last.login,
            account=last.account,
            review=last.review,
            read_at=attested.attestation.read_at,
            hours=attested.hours,
        )
        facts = {"actor": actor, "verdict": verdict, "change": attested.attestation.change, "at": last.at}
        reviews.append(
            Review.model_validate(
                facts | {"base": attested.attestation.base, "source": source, "attestation": attested.bundle}
            )
        )
    return tuple(reviews), tuple(notes)


def with_attested(signed: Sequence[Review], attested: Sequence[Review]) -> tuple[Review, ...]:
    """Signed and attested verdicts in order of time; each person's last one counts.

    What somebody signed later stands in place of what they said at the forge. But a rejection there is taken back by an
    approval of the same alone, and one that stands: nothing else leaves a receipt, so `verify` could not know of it.
    Where two clocks cannot tell which came later, a signed rejection did; and within one second, which is all that they
    tell, an approval did not.
    """

    def stands(review: Review) -> bool:
        own = [other for other in signed if other.actor == review.actor]
        if review.verdict == "approve":
            return not [
                other
                for other in own
                if other.at >= review.at - (CLOCK_TOLERANCE if other.verdict == "reject" else timedelta())
            ]
        last = own[-1] if own else review
        return not (last.verdict == "approve" and last.change == review.change and last.at > review.at)

    return (*signed, *(review for review in attested if stands(review)))


def of_pull(main: GovernedState, pull: PullRequest, change: str) -> tuple[tuple[Review, ...], tuple[str, ...]]:
    """Verdicts that a workflow attested of an open pull request, and what a reader should know of others.

    Where the forge was just asked, an approval that it does not show any more is none.
    """
    if not pull.attested or not main.policy.attested_forges:
        return (), ()
    attested, doubts = newest(main, pull)
    notes = [f"An attestation of reviews does not count: {doubt}" for doubt in dict.fromkeys(doubts)]
    if attested is None:
        return (), tuple(notes)
    doubt = about(attested.attestation, pull.number, pull.head, change)
    if doubt:
        return (), (*notes, f"An attestation of reviews does not count: it {doubt}.")
    own_reviews, others = verdicts(attested, main)
    reviews_left = []
    for review in own_reviews:
        assert review.source
        if review.verdict == "approve" and pull.heard is not None and not _still_approves(pull, review.source.login):
            notes.append(f"The approval of {review.actor} does not count: the forge does not show it any more.")
            continue
        reviews_left.append(review)
    return tuple(reviews_left), (*notes, *others)


def find_objectors(people: People, pull: PullRequest, signed: Sequence[Review], change: str) -> frozenset[str]:
    """People who asked for changes at the forge and did not take it back: there, or by what they signed since.

    That opens no gate, so it needs less proof than an approval: the login or the account of a person is enough, and no
    workflow need have attested it. Nothing of it outlives the merge: receipts hold approvals, and ``verify`` asks no
    forge.
    """
    taken_back = {
        (review.actor, review.at) for review in signed if (review.verdict, review.change) == ("approve", change)
    }
    return frozenset(
        person.id
        for objection in pull.heard or ()
        for person in people.people
        if objection.verdict == "reject"
        and (
            person.logins.get(FORGE, "").lower() == objection.login.lower()
            or person.accounts.get(FORGE) == objection.account
        )
        and not is_harness(person.id, people)
        and not any(actor == person.id and at > objection.at for actor, at in taken_back)
    )


def about(claim: ReviewsAttestation, pull: int, head: str | None, change: str) -> str | None:
    """Why an attestation is not about this pull request as it is; None when it is."""
    if claim.pull != pull:
        return f"is of pull request {claim.pull}"
    if claim.head != head:
        return f"is of another commit ({claim.head[:12]})"
    return None if claim.change == change else "is of another change"


def approved_at(people: People, actor: str, path: str, data: bytes) -> datetime:
    """When an actor gave the approval that a receipt proves: as it was signed, or as the forge took their review.

    Anybody may review at a forge, so what others said there begins no window. Where people.yaml gives the account to
    nobody any more, the earliest approval does: a window then ends sooner, and never later.

    Raises:
        IntegrityFailure: ``bad-receipt``.
    """
    try:
        if not path.rpartition("/")[2].startswith("attested-"):
            return Approval.model_validate_json(data).at
        claim = claimed(data)
    except (ValueError, IntegrityFailure):
        raise IntegrityFailure("bad-receipt", f"{path} cannot be read", "Restore it from history.", path=path) from None
    approvals = [review for review in claim.reviews if review.state == "APPROVED"]
    own = [
        review
        for review in _last(approvals)
        if account_holder(people, claim.forge, review.login, review.account) == actor
    ]
    return min((review.at for review in own or approvals), default=claim.read_at)


def _last(reviews: Iterable[AttestedReview]) -> Iterator[AttestedReview]:
    """The last opinion of each account."""
    last: dict[int, AttestedReview] = {}
    for review in sorted(reviews, key=lambda review: (review.at, review.review)):
        last[review.account] = review
    yield from last.values()


def _doubt(last: AttestedReview, verdict: str, claim: ReviewsAttestation, actor: str | None) -> str | None:
    if last.kind != "User":
        return f"it is a {last.kind}, and decides nothing for people"
    if actor is None:
        return "people.yaml gives this account and login together to nobody"
    if last.at > claim.read_at + CLOCK_TOLERANCE:
        return "it is dated after it was read"
    if verdict == "approve" and last.commit != claim.head:
        return f"it approves another commit ({(last.commit or 'none')[:12]})"
    return None


def _still_approves(pull: PullRequest, login: str) -> bool:
    comments = pull.heard or ()
    return any(
        (entry.login.lower(), entry.verdict, entry.head) == (login.lower(), "approve", pull.head) for entry in comments
    )


def _bad(problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "bad-attestation", f"An attestation of reviews {problem}.", "Compare with a clone that verifies."
    )
