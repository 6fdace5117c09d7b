"""Whose approvals a change needs, by CODEOWNERS and by the policy, and which of its paths are left to nobody. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelsmith.governance.codeowners import Codeowners, any_matches
from modelsmith.governance.names import fold_name
from modelsmith.governance.observed import observed_in
from modelsmith.governance.person_gates import PERSON_EVENTS, any_problem, override_role
from modelsmith.governance.shape import Refusal, concern, promotion_folder
from modelsmith.governance.states import parse_folder
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import Policy
from modelsmith.schema.promotion import OVERRIDE_FILE
from modelsmith.schema.pull import Change


@dataclass(frozen=True)
class Requirement:
    """An approval that the change needs: of any one of the owners, because of these paths."""

    pattern: str
    """Pattern of the line of CODEOWNERS, or ``policy: <event>``."""
    owners: tuple[str, ...]
    paths: tuple[str, ...]


def requirements(policy: Policy, codeowners: Codeowners, change: Change) -> list[Requirement]:
    """Every approval that the change needs, each once: first those of CODEOWNERS, in the file's order."""
    required = _required_by_codeowners(codeowners, change)
    required += [
        requirement for requirement in _required_by_policy(policy, change) if not _covered(requirement, required)
    ]
    return [*required, *_asked_by_override(policy, change)]


def _required_by_codeowners(codeowners: Codeowners, change: Change) -> list[Requirement]:
    """One ask for each line that decides about a changed path and has owners, in the file's order."""
    lines: dict[int, tuple[str, tuple[str, ...], list[str]]] = {}
    for changed in change.paths:
        rule = codeowners.rule(changed.path)
        if rule and rule.owners:
            lines.setdefault(rule.line, (rule.pattern, rule.owners, []))[2].append(changed.path)
    return [Requirement(pattern, owners, tuple(sorted(paths))) for _, (pattern, owners, paths) in sorted(lines.items())]


def _required_by_policy(policy: Policy, change: Change) -> Iterator[Requirement]:
    """A promotion's event asks for the roles that the policy gives it, whatever CODEOWNERS says about the folder."""
    for event, paths in promoted(change).items():
        gates = {transition.gate for transition in policy.transitions if transition.event == event}
        for role in sorted(gates - {"harness"}):
            yield Requirement(f"policy: {event}", (f"@{role}",), tuple(sorted(paths)))


def _asked_by_override(policy: Policy, change: Change) -> Iterator[Requirement]:
    """An override asks for the role that policy names for it, whoever else is asked; it is a need of its own."""
    role, paths = override_role(policy), _overrides(change)
    if role and paths:
        yield Requirement("policy: override of INCONCLUSIVE", (f"@{role}",), tuple(sorted(paths)))


def _overrides(change: Change) -> list[str]:
    """Overrides of an eval that the change brings."""
    accepted = promoted(change).get("eval-accepted", [])
    return [path for path in accepted if fold_name(path.rpartition("/")[2]) == OVERRIDE_FILE]


def promoted(change: Change) -> dict[str, list[str]]:
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


def _covered(requirement: Requirement, others: Sequence[Requirement]) -> bool:
    """Whether another ask for the same owners already speaks for all its paths."""
    return any(other.owners == requirement.owners and set(requirement.paths) <= set(other.paths) for other in others)


def left_to_nobody(policy: Policy, codeowners: Codeowners, change: Change) -> Iterator[Refusal]:
    """Paths that nobody owns and that the policy does not leave to the checks, or that no check derives.

    Of what is governed, checks stand in for a person only where they say byte by byte what must stand there: in a
    promotion; and in an observation, whose words are an observer's and which grants nothing by itself.
    """
    promotion = bool(promoted(change) or observed_in(change))
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
    for event in promoted(change).keys() - {transition.event for transition in policy.transitions}:
        yield Refusal("unknown-event", f"The policy knows no transition for {event}.")
    yield from _left_to_the_harness(policy, codeowners, change)
    if _overrides(change) and override_role(policy) is None:
        yield Refusal("override-forbidden", "The policy lets nobody override an INCONCLUSIVE.")


def _left_to_the_harness(policy: Policy, codeowners: Codeowners, change: Change) -> Iterator[Refusal]:
    """Steps of people that policy or CODEOWNERS take from them."""
    for event, paths in promoted(change).items():
        for transition in policy.transitions:
            applies = transition.event == event
            problem = any_problem(transition) if applies else None
            if problem:
                yield Refusal("harness-gate", f"The policy is not to be followed: {problem}.")
        for path in paths:
            if event in PERSON_EVENTS and not codeowners.owners(path):
                yield Refusal("unowned-gate", f"People decide about {event}, but nobody owns {path!r}.")
