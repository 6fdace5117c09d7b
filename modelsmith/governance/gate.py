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

from modelsmith.governance.codeowners import Codeowners, any_matches
from modelsmith.governance.keys import merge_time, review_doubt
from modelsmith.governance.names import fold_name
from modelsmith.governance.observed import observed_in
from modelsmith.governance.people import claimed_actors, is_harness, principals
from modelsmith.governance.person_gates import PERSON_EVENTS, any_problem, override_role
from modelsmith.governance.shape import Refusal, concern, promotion_folder, refusals
from modelsmith.governance.states import parse_folder
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.promotion import OVERRIDE_FILE
from modelsmith.schema.pull import Change, Elsewhere, Review


@dataclass(frozen=True)
class CheckResult:
    """What one of the harness's checks found."""

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
    """What the decision rests on besides approvals."""
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
    said_no: Set[str] = frozenset(),
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
        said_no: Who asked for changes at the forge, where nobody has signed that: it closes the gate of what they own.
    """
    at = merge_time(now, reviews)
    verdicts, notes = _standing(change, reviews, policy, people, at)
    rejected = _rejected_elsewhere(verdicts, elsewhere, policy, people, at)
    asker = (requester,) if is_harness(preparer, people) else ()
    involved = {
        **{actor.lower(): "is said to have asked for it" for actor in asker},
        **{actor.lower(): "signed a commit of it" for actor in authors},
        preparer.lower(): "opened it",
    }
    claimed = claimed_actors(claims, people)
    asked = _required_by_codeowners(codeowners, change)
    asked += [requirement for requirement in _required_by_policy(policy, change) if not _covered(requirement, asked)]
    asked += _asked_by_override(policy, change)
    found: list[Refusal] = [*refusals(change, policy.limits), *_unowned(policy, codeowners, change)]
    if policy.people_open and is_harness(preparer, people) and not _promoted(change) and not observed_in(change):
        words = (
            f"{preparer} opened this, and the policy asks a person to open what is no promotion, with their own key."
        )
        found.append(Refusal("opened-by-harness", words))
    found += [Refusal("check-failed", f"{check.name}: {check.sentence}") for check in checks if not check.passed]
    prepared = is_harness(preparer, people) or preparer in recorders
    if _promoted(change) and not asked and not prepared:
        words = f"{preparer} opened this, and what no person approves is opened by who prepared its record."
        found.append(Refusal("opened-by-another", words))
    if not asked and not checks:
        found.append(Refusal("no-checks", "No person owns these paths and no check has run."))
    needs: list[Need] = []
    approvers: set[str] = set()
    by_contract = False
    able_claimed: set[str] = set()
    for requirement in asked:
        able = frozenset[str]().union(*(principals(owner, people) for owner in requirement.owners))
        free = {actor for actor in able if actor.lower() not in involved and not is_harness(actor, people)}
        able_claimed |= free & claimed
        counted = sorted(actor for actor in free if actor in verdicts and verdicts[actor].verdict == "approve")
        approvers.update(counted)
        found += [
            Refusal("rejected", f"{actor} owns {requirement.paths[0]} and rejects this change.")
            for actor in sorted(able)
            if actor in verdicts and verdicts[actor].verdict == "reject"
        ]
        found += [
            Refusal(
                "rejected",
                f"{actor} owns {requirement.paths[0]} and rejected the same in pull request {rejected[actor]}; "
                f"only another verdict of {actor} takes that back.",
            )
            for actor in sorted(able & rejected.keys())
        ]
        found += [
            Refusal("rejected", f"{actor} owns {requirement.paths[0]} and asked for changes at the forge.")
            for actor in sorted(able & said_no)
        ]
        satisfied_by = counted[0] if counted else None
        if satisfied_by is None and prepared and contract and contract.covers(requirement.paths):
            satisfied_by = f"contract of {contract.deployment}"
            by_contract = True
        needs.append(
            Need(requirement.pattern, requirement.owners, requirement.paths, satisfied_by, tuple(sorted(free)))
        )
    waiting = sorted({owner for need in needs if need.satisfied_by is None for owner in need.owners})
    return GateDecision(
        open=not found and not waiting,
        gate="contract" if by_contract else "people" if needs else "harness",
        needs=tuple(needs),
        approvers=tuple(sorted(approvers)),
        approvals=tuple(verdicts[actor] for actor in sorted(approvers)),
        refusals=tuple(dict.fromkeys(found)),
        waiting_for=tuple(waiting),
        checks=tuple(checks),
        notes=(
            *notes,
            *(
                [f"{preparer} opened this and did not prepare its record, so the contract does not speak for it."]
                if contract and not prepared
                else []
            ),
            *(
                f"A commit claims {actor} as author, unauthenticated; that takes no approval away."
                for actor in sorted(able_claimed)
            ),
            *(
                f"{preparer} names {need} as having asked for this; nobody but {preparer} signed that, and it takes no "
                "approval away."
                for need in sorted({actor for need in needs for actor in need.eligible if actor == requester})
            ),
        ),
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
    """Everybody who could give or refuse an approval that some path of the change needs, whoever opened it."""
    asked = [
        *_required_by_codeowners(codeowners, change),
        *_required_by_policy(policy, change),
        *_asked_by_override(policy, change),
    ]
    return frozenset[str]().union(*(principals(owner, people) for requirement in asked for owner in requirement.owners))


@dataclass(frozen=True)
class _Requirement:
    pattern: str
    owners: tuple[str, ...]
    paths: tuple[str, ...]


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
    heard: dict[tuple[str, int], Elsewhere] = {}
    for said in sorted(elsewhere, key=lambda said: said.review.at):
        if review_doubt(said.review, policy, people, now) is None:
            heard[said.review.actor, said.pull] = said
    last: dict[str, Elsewhere] = {}
    for said in sorted(heard.values(), key=lambda said: (said.review.at, said.review.verdict == "reject")):
        last[said.review.actor] = said
    return {
        actor: said.pull
        for actor, said in last.items()
        if said.review.verdict == "reject" and not (actor in verdicts and verdicts[actor].at > said.review.at)
    }


def _required_by_codeowners(codeowners: Codeowners, change: Change) -> list[_Requirement]:
    """One ask for each line that decides about a changed path and has owners, in the file's order."""
    lines: dict[int, tuple[str, tuple[str, ...], list[str]]] = {}
    for changed in change.paths:
        rule = codeowners.rule(changed.path)
        if rule and rule.owners:
            lines.setdefault(rule.line, (rule.pattern, rule.owners, []))[2].append(changed.path)
    return [
        _Requirement(pattern, owners, tuple(sorted(paths))) for _, (pattern, owners, paths) in sorted(lines.items())
    ]


def _required_by_policy(policy: Policy, change: Change) -> Iterator[_Requirement]:
    """A promotion's event asks for the roles that the policy gives it, whatever CODEOWNERS says about the folder."""
    for event, paths in _promoted(change).items():
        gates = {transition.gate for transition in policy.transitions if transition.event == event}
        for role in sorted(gates - {"harness"}):
            yield _Requirement(f"policy: {event}", (f"@{role}",), tuple(sorted(paths)))


def _asked_by_override(policy: Policy, change: Change) -> Iterator[_Requirement]:
    """An override asks for the role that policy names for it, whoever else is asked; it is a need of its own."""
    role, paths = override_role(policy), _overrides(change)
    if role and paths:
        yield _Requirement("policy: override of INCONCLUSIVE", (f"@{role}",), tuple(sorted(paths)))


def _overrides(change: Change) -> list[str]:
    """Overrides of an eval that the change brings."""
    accepted = _promoted(change).get("eval-accepted", [])
    return [path for path in accepted if fold_name(path.rpartition("/")[2]) == OVERRIDE_FILE]


def _promoted(change: Change) -> dict[str, list[str]]:
    """Changed paths by the promotion event whose folder they lie in; malformed folders left out."""
    events: dict[str, list[str]] = {}
    for changed in change.paths:
        folder = promotion_folder(changed.path)
        try:
            if folder:
                events.setdefault(parse_folder(folder).event, []).append(changed.path)
        except InvalidInput:
            continue
    return events


def _covered(requirement: _Requirement, others: Sequence[_Requirement]) -> bool:
    """Whether another ask for the same owners already speaks for all its paths."""
    return any(other.owners == requirement.owners and set(requirement.paths) <= set(other.paths) for other in others)


def _unowned(policy: Policy, codeowners: Codeowners, change: Change) -> Iterator[Refusal]:
    """Paths that nobody owns and that the policy does not leave to the checks, or that no check derives.

    Of what is governed, checks stand in for a person only where they say byte by byte what must stand there: in a
    promotion; and in an observation, whose words are an observer's and which grants nothing by itself.
    """
    promotion = bool(_promoted(change) or observed_in(change))
    if not codeowners.loaded:
        yield Refusal("codeowners-not-loaded", "CODEOWNERS is too large to be read, so nobody owns anything.")
    for changed in change.paths:
        if codeowners.owners(changed.path):
            continue
        if not any_matches(policy.harness_paths, changed.path):
            sentence = f"Nobody owns {changed.path!r}, and the policy does not leave it to the checks."
            yield Refusal("unowned-path", sentence)
        elif not promotion and concern(changed.path) != "other":
            sentence = f"Nobody owns {changed.path!r}, and only as part of a promotion is it left to the checks."
            yield Refusal("unowned-path", sentence)
    for event in _promoted(change).keys() - {transition.event for transition in policy.transitions}:
        yield Refusal("unknown-event", f"The policy knows no transition for {event}.")
    yield from _left_to_the_harness(policy, codeowners, change)
    if _overrides(change) and override_role(policy) is None:
        yield Refusal("override-forbidden", "The policy lets nobody override an INCONCLUSIVE.")


def _left_to_the_harness(policy: Policy, codeowners: Codeowners, change: Change) -> Iterator[Refusal]:
    """Steps of people that policy or CODEOWNERS take from them."""
    for event, paths in _promoted(change).items():
        for transition in policy.transitions:
            here = transition.event == event
            problem = any_problem(transition) if here else None
            if problem:
                yield Refusal("harness-gate", f"The policy is not to be followed: {problem}.")
        for path in paths:
            if event in PERSON_EVENTS and not codeowners.owners(path):
                yield Refusal("unowned-gate", f"People decide about {event}, but nobody owns {path!r}.")
