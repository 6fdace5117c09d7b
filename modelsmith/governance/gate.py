"""The gate's verdict on a pull request: a pure function of what governs at the base, the change, and what was said.

An approval's subject is the change, so any other edit voids it. Whoever opened or, by signed commits, wrote the change
approves nothing of it, nor does whom a harness names as having asked for it, and no harness ever does. A person who
opens it and names somebody else takes nothing from them: naming is not signing. What is refused cannot be approved
away. Only one thing was approved before it was proposed: the rollback contract of a deployment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from modelsmith.governance.codeowners import Codeowners
from modelsmith.governance.keys import merge_time, review_doubt
from modelsmith.governance.observed import observed_in
from modelsmith.governance.people import claimed_actors, is_harness, principals
from modelsmith.governance.requirements import Requirement, left_to_nobody, promoted, requirements
from modelsmith.governance.shape import Refusal, refusals
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.pull import Change, Elsewhere, Review


@dataclass(frozen=True)
class CheckResult:
    """Result of one of the harness's checks."""

    name: str
    passed: bool
    sentence: str
    """Why, in words that a reviewer can defend."""
    undecided: bool = False
    """Whether it did not pass for want of data, so that a person, not a better candidate, may be what is missing."""


@dataclass(frozen=True)
class Need:
    """One line of CODEOWNERS, or one role that the policy names, whose approval the change needs."""

    pattern: str
    """Pattern of the line, or ``policy: <event>``."""
    owners: tuple[str, ...]
    """Any one of them suffices."""
    paths: tuple[str, ...]
    """Changed paths that ask for it."""
    satisfied_by: str | None
    """Whose approval counts, or the name of the contract that speaks for it; None while it is waited for."""
    eligible: tuple[str, ...]
    """Who could give it: owners who are neither involved in the change nor a harness, sorted."""


@dataclass(frozen=True)
class Contract:
    """An approval that people gave in advance, with a deployment: it speaks for the folder that rolls it back."""

    folder: str
    """``promotions/<cluster>/<specialist>/<NN>-rolled-back``; nothing outside it is approved by the contract."""
    deployment: str
    """Name of the deployment's folder, ``<NN>-customer-deployed``."""

    def covers(self, paths: Collection[str]) -> bool:
        """Whether all the paths lie in its folder."""
        return all(path.startswith(f"{self.folder}/") for path in paths)


@dataclass(frozen=True)
class GateDecision:
    """Whether the pull request may be merged now, and if not, why."""

    open: bool
    gate: Literal["harness", "people", "contract"]
    """``harness`` when the checks alone decide, ``contract`` when a need is met by one instead of by a person."""
    needs: tuple[Need, ...]
    approvers: tuple[str, ...]
    """Everyone whose approval counts for some need, sorted."""
    approvals: tuple[Review, ...]
    """The approval of each of them, in the same order."""
    refusals: tuple[Refusal, ...]
    waiting_for: tuple[str, ...]
    """Owners of needs without an approval, as CODEOWNERS or the policy writes them, sorted."""
    checks: tuple[CheckResult, ...]
    """Results of the checks that the decision rests on, besides approvals."""
    notes: tuple[str, ...]
    """What a reviewer should know although it opens and closes nothing: verdicts that do not count, claims."""
    involved: Mapping[str, str] = field(default_factory=dict)
    """Who may approve nothing of it, in lower case, and what they have to do with it."""

    @property
    def decides(self) -> str:
        """Whose approvals are missing: any one owner of each need."""
        missing = dict.fromkeys(" or ".join(need.owners) for need in self.needs if need.satisfied_by is None)
        several = len(missing) > 1
        return " and ".join(f"({owners})" if several and " or " in owners else owners for owners in missing)


def decide(
    *,
    policy: Policy,
    people: People,
    codeowners: Codeowners,
    change: Change,
    reviews: Sequence[Review],
    requester: str,
    preparer: str,
    authors: Collection[str],
    claims: Collection[str],
    checks: Sequence[CheckResult],
    now: datetime,
    contract: Contract | None = None,
    recorders: Collection[str] = (),
    elsewhere: Sequence[Elsewhere] = (),
    objectors: Set[str] = frozenset(),
) -> GateDecision:
    """Whether a pull request may be merged, whose approvals it still needs, and why.

    Args:
        policy: Policy at the base: never the proposal's own.
        people: People at the base.
        codeowners: CODEOWNERS at the base.
        change: What the merge would change.
        reviews: Authenticated verdicts, oldest first. Each actor's last verdict on this very change stands; a verdict
            on another change counts for nothing.
        requester: Who asked for the change, as whoever opened it says.
        preparer: Who opened the pull request.
        authors: Ids of everyone whose key signed a commit of the proposal.
        claims: Names and addresses that its commits claim. They are noted, and give and take nothing.
        checks: What the checks found; one that failed refuses.
        now: A time that the merge is not before: the present where it is merged, in replay the latest time that
            history has seen signed. See `merge_time`.
        contract: What was approved in advance about this very change, as the checks found out. It speaks where whoever
            prepared the record opens it: what owners had closed is not opened again past them by anybody.
        recorders: Who prepared the promotion records of the change, as these say.
        elsewhere: Authentic rejections of the same in other pull requests, and withdrawals. One stands, whatever number
            the same is opened under, until its giver takes it back, there or by another verdict here.
        objectors: Who asked for changes at the forge, unsigned: it closes the gate of what they own.
    """
    at = merge_time(now, reviews)
    verdicts, notes = _standing(change, reviews, policy, people, at)
    rejected = _rejected_elsewhere(verdicts, elsewhere, policy, people, at)
    involved = _involved(people, requester, preparer, authors)
    required = requirements(policy, codeowners, change)
    prepared = is_harness(preparer, people) or preparer in recorders
    reasons = [
        *refusals(change, policy.limits),
        *left_to_nobody(policy, codeowners, change),
        *_opened_by_harness(policy, people, change, preparer),
        *(Refusal("check-failed", f"{check.name}: {check.sentence}") for check in checks if not check.passed),
    ]
    if not required:
        reasons += _decided_by_checks(change, checks, preparer, prepared)
    approving = {actor for actor, review in verdicts.items() if review.verdict == "approve"}
    needs: list[Need] = []
    for requirement in required:
        able = _able(requirement, people)
        eligible = {actor for actor in able if actor.lower() not in involved and not is_harness(actor, people)}
        satisfied_by = min(eligible & approving, default=None)
        if satisfied_by is None and prepared:
            satisfied_by = _spoken_for(requirement, contract)
        needs.append(
            Need(requirement.pattern, requirement.owners, requirement.paths, satisfied_by, tuple(sorted(eligible)))
        )
        reasons += _rejections(requirement.paths[0], able, verdicts, rejected, objectors)
    could = {actor for need in needs for actor in need.eligible}
    approvers = sorted(could & approving)
    by_contract = any(need.satisfied_by not in (None, *approvers) for need in needs)
    waiting = sorted({owner for need in needs if need.satisfied_by is None for owner in need.owners})
    if contract and not prepared:
        notes.append(f"{preparer} opened this and did not prepare its record, so the contract does not speak for it.")
    notes += _claimed(could, claimed_actors(claims, people), requester, preparer)
    return GateDecision(
        open=not reasons and not waiting,
        gate="contract" if by_contract else "people" if needs else "harness",
        needs=tuple(needs),
        approvers=tuple(approvers),
        approvals=tuple(verdicts[actor] for actor in approvers),
        refusals=tuple(dict.fromkeys(reasons)),
        waiting_for=tuple(waiting),
        checks=tuple(checks),
        notes=tuple(notes),
        involved=involved,
    )


def why_uncounted(
    decision: GateDecision, people: People, actor: str, verdict: Literal["approve", "reject"]
) -> str | None:
    """Why the verdict that somebody has given changes nothing; None when it counts.

    Args:
        decision: The gate's, with the verdict among what was said.
        people: As for the decision.
        actor: Who gave it.
        verdict: What they said.
    """
    noun = _NOUNS[verdict]
    doubt = f"The {noun} of {actor} does not count: "
    for note in decision.notes:
        if note.startswith(doubt):
            return note.removeprefix(doubt).rstrip(".")
    if not decision.needs:
        return "the harness's checks alone decide about it"
    owned = [need for need in decision.needs if any(actor in principals(owner, people) for owner in need.owners)]
    if not owned:
        owners = dict.fromkeys(owner for need in decision.needs for owner in need.owners)
        return f"{actor} is none of its owners, which are {', '.join(owners)}"
    if verdict == "approve" and actor not in decision.approvers:
        return f"{actor} {decision.involved.get(actor.lower(), 'is a machine')}"
    return None


def deciders(policy: Policy, people: People, codeowners: Codeowners, change: Change) -> frozenset[str]:
    """Everybody who could give or refuse an approval that the change needs, whoever opened it."""
    required = requirements(policy, codeowners, change)
    return frozenset[str]().union(*(_able(requirement, people) for requirement in required))


_NOUNS = {"approve": "approval", "reject": "rejection", "withdraw": "withdrawal"}


def _standing(
    change: Change, reviews: Sequence[Review], policy: Policy, people: People, now: datetime
) -> tuple[dict[str, Review], list[str]]:
    """Each actor's last verdict on this change that counts, and why others do not."""
    subject = change.digest()
    verdicts: dict[str, Review] = {}
    notes: list[str] = []
    for review in reviews:
        if review.change != subject:
            continue
        doubt = review_doubt(review, policy, people, now)
        if doubt is None:
            verdicts[review.actor] = review
        else:
            notes.append(f"The {_NOUNS[review.verdict]} of {review.actor} does not count: {doubt}.")
    return verdicts, list(dict.fromkeys(notes))


def _rejected_elsewhere(
    verdicts: Mapping[str, Review], elsewhere: Sequence[Elsewhere], policy: Policy, people: People, now: datetime
) -> dict[str, int]:
    """Whose rejection in another pull request stands here, and its number.

    Times are whole seconds. Which of two pull requests heard somebody later within one cannot be told: the rejection
    counts as later. Within one pull request the order of its log tells.
    """
    latest: dict[tuple[str, int], Elsewhere] = {}
    for other in sorted(elsewhere, key=lambda item: item.review.at):
        if review_doubt(other.review, policy, people, now) is None:
            latest[other.review.actor, other.pull] = other
    last: dict[str, Elsewhere] = {}
    for other in sorted(latest.values(), key=lambda item: (item.review.at, item.review.verdict == "reject")):
        last[other.review.actor] = other
    return {
        actor: other.pull
        for actor, other in last.items()
        if other.review.verdict == "reject" and not (actor in verdicts and verdicts[actor].at > other.review.at)
    }


def _involved(people: People, requester: str, preparer: str, authors: Collection[str]) -> dict[str, str]:
    """Who may approve nothing of the change, in lower case, and what they have to do with it.

    Whom a harness names as having asked for it is among them; naming somebody takes nothing from them otherwise.
    """
    asker = {requester.lower(): "is said to have asked for it"} if is_harness(preparer, people) else {}
    signers = {actor.lower(): "signed a commit of it" for actor in authors}
    return {**asker, **signers, preparer.lower(): "opened it"}


def _able(requirement: Requirement, people: People) -> frozenset[str]:
    """Everybody whom one of its owners names."""
    return frozenset[str]().union(*(principals(owner, people) for owner in requirement.owners))


def _opened_by_harness(policy: Policy, people: People, change: Change, preparer: str) -> Iterator[Refusal]:
    """A harness opens promotions and observations only, where the policy asks people to open everything else."""
    if policy.people_open and is_harness(preparer, people) and not promoted(change) and not observed_in(change):
        words = (
            f"{preparer} opened this, and the policy asks a person to open what is no promotion, with their own key."
        )
        yield Refusal("opened-by-harness", words)


def _decided_by_checks(
    change: Change, checks: Sequence[CheckResult], preparer: str, prepared: bool
) -> Iterator[Refusal]:
    """Where no person is asked, checks must have run, and a promotion is opened by who prepared its record."""
    if promoted(change) and not prepared:
        words = f"{preparer} opened this, and what no person approves is opened by who prepared its record."
        yield Refusal("opened-by-another", words)
    if not checks:
        yield Refusal("no-checks", "No person owns these paths and no check has run.")


def _spoken_for(requirement: Requirement, contract: Contract | None) -> str | None:
    """The contract, as the need names it, where it covers what is asked; else None."""
    return f"contract of {contract.deployment}" if contract and contract.covers(requirement.paths) else None


def _rejections(
    path: str,
    able: Set[str],
    verdicts: Mapping[str, Review],
    rejected: Mapping[str, int],
    objectors: Set[str],
) -> Iterator[Refusal]:
    """An owner's no, wherever it was said: here, in another pull request about the same, or unsigned at the forge."""
    for actor in sorted(able & verdicts.keys()):
        if verdicts[actor].verdict == "reject":
            yield Refusal("rejected", f"{actor} owns {path} and rejects this change.")
    for actor in sorted(able & rejected.keys()):
        yield Refusal(
            "rejected",
            f"{actor} owns {path} and rejected the same in pull request {rejected[actor]}; "
            f"only another verdict of {actor} takes that back.",
        )
    for actor in sorted(able & objectors):
        yield Refusal("rejected", f"{actor} owns {path} and asked for changes at the forge.")


def _claimed(could: Set[str], claimed: Set[str], requester: str, preparer: str) -> Iterator[str]:
    """Unsigned statements of those who could approve."""
    for actor in sorted(could & claimed):
        yield f"A commit claims {actor} as author, unauthenticated; that takes no approval away."
    if requester in could:
        yield (
            f"{preparer} names {requester} as having asked for this; nobody but {preparer} signed that, and it takes "
            "no approval away."
        )
