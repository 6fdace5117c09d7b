"""Steps that only people decide, whatever a repository's policy says.

Policy is data that its owners may change. It may name which role decides a deployment; it may not give the deployment
to the harness, nor reach a serving state by an event of another name.
"""

from __future__ import annotations

from modelsmith.governance.states import SERVING_STATES
from modelsmith.schema.base import Event, State
from modelsmith.schema.governance import Policy, Transition

PERSON_EVENTS: frozenset[Event] = frozenset(
    {"customer-deployed", "production-validated", "deprecated", "rolled-back", "hold-cleared"}
)
"""A person decides each of these; a rollback within its contract was decided with the deployment."""

OBSERVED_EVENTS: frozenset[Event] = frozenset({"customer-deployed", "production-validated"})
"""Events for which a policy may require observers: they come after the evidence is on main, and add traffic."""

STATE_AFTER: dict[Event, State] = {
    "candidate": "candidate",
    "eval-accepted": "eval-accepted",
    "artifact-exported": "artifact-exported",
    "customer-deployed": "customer-deployed",
    "production-validated": "production-validated",
    "deprecated": "deprecated",
    "rolled-back": "artifact-exported",
    "hold-cleared": "artifact-exported",
}
"""Where each event leads."""


def transition_problem(transition: Transition) -> str | None:
    """Why no policy may hold this transition; None when it may."""
    event = transition.event
    if transition.target != STATE_AFTER[event]:
        return f"{event} leads to {STATE_AFTER[event]}, not to {transition.target}"
    if transition.gate != "harness":
        return None
    if event in PERSON_EVENTS:
        return f"{event} is decided by people; the policy leaves it to the harness"
    removed_from = sorted(SERVING_STATES.union({"deprecated"}).intersection(transition.sources))
    if removed_from:
        return f"{event} would let the harness take a specialist out of {' or '.join(removed_from)}"
    return None


def override_problem(transition: Transition) -> str | None:
    """Why no policy may allow this override; None when it may, or allows none."""
    if transition.override is None:
        return None
    if transition.event != "eval-accepted":
        return f"an eval is overridden where it is accepted, and this says {transition.event}"
    if transition.override == "harness":
        return "an override is decided by people; the policy leaves it to the harness"
    return None


def override_role(policy: Policy) -> str | None:
    """Role that may let an INCONCLUSIVE count; None where the policy lets nobody, or may not let whom it names."""
    roles = [
        transition.override
        for transition in policy.transitions
        if transition.event == "eval-accepted" and not override_problem(transition)
    ]
    return next((role for role in roles if role), None)


def observers_problem(transition: Transition) -> str | None:
    """Why no policy may require observers of this transition; None when it may, or requires none."""
    if transition.retrained > transition.observers:
        return f"retrained: {transition.retrained} asks for more than observers: {transition.observers}"
    if not transition.observers or transition.event in OBSERVED_EVENTS:
        return None
    return f"observers are required of {' and '.join(sorted(OBSERVED_EVENTS))} only, and this says {transition.event}"


def shadow_problem(transition: Transition) -> str | None:
    """Why no policy may require a shadow of this transition; None when it may, or requires none."""
    if not transition.shadow or transition.event == "customer-deployed":
        return None
    return f"a shadow comes before customer-deployed, and this says {transition.event}"


def any_problem(transition: Transition) -> str | None:
    """The first reason why no policy may hold this transition as it is; None when one may."""
    for problem in (transition_problem, observers_problem, override_problem, shadow_problem):
        if found_problem := problem(transition):
            return found_problem
    return None
