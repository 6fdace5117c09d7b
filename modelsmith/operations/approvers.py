"""``modelsmith approvers``: who decides each step of a specialist's life."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.operations.contract import Request, Result
from modelsmith.operations.pull_view import view
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen


class ApproversRequest(Request):
    """Who must approve which transition, by main's policy: a role and the people who hold it, or the checks alone.

    With --pr also whose approval that pull request still lacks.
    """

    pr: Annotated[int | None, Field(ge=1, le=999_999_999, description="Number of a pull request.")] = None


class GateView(Frozen):
    """One transition of the policy, and who opens its gate."""

    event: str
    from_states: tuple[str, ...]
    to_state: str
    gate: str
    """``harness`` where the checks alone decide, else the role."""
    people: tuple[str, ...]
    """Who holds the role; nobody where the checks decide."""
    observers: int
    """How many second observers must agree first."""


class ApproversResult(Result):
    """The chain of transitions, and who decides each."""

    gates: tuple[GateView, ...]
    waiting_for: tuple[str, ...]
    """Owners one of whom must still approve the pull request that was asked about."""
    decides: str
    """The same in words."""
    approved_by: tuple[str, ...]


def run(workspace: Workspace, request: ApproversRequest) -> ApproversResult:
    """Read policy and people of main, and the pull request from the forge; nothing is changed."""
    if request.pr is None:
        return ApproversResult(
            gates=_gates(read_governed_state(workspace.git, "HEAD")), waiting_for=(), decides="", approved_by=()
        )
    forge = open_forge(workspace)
    main = read_governed_state(workspace.git, forge.fetch_into(workspace.git))
    pull_view = view(main, forge.get(request.pr))
    return ApproversResult(
        gates=_gates(main),
        waiting_for=pull_view.waiting_for,
        decides=pull_view.decides,
        approved_by=pull_view.approvers,
    )


def _gates(main: GovernedState) -> tuple[GateView, ...]:
    return tuple(
        GateView(
            event=transition.event,
            from_states=transition.sources,
            to_state=transition.target,
            gate=transition.gate,
            people=tuple(person.id for person in main.people.people if transition.gate in person.roles),
            observers=transition.observers,
        )
        for transition in main.policy.transitions
    )
