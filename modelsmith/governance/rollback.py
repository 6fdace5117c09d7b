"""Whether a rollback is the one that people approved together with the deployment. A pure decision: no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from modelsmith.governance.keys import CLOCK_TOLERANCE
from modelsmith.schema.base import State
from modelsmith.schema.figures import counted
from modelsmith.schema.live import LiveWindow
from modelsmith.schema.promotion import RollbackContract, RollbackOrder


@dataclass(frozen=True)
class RollbackDecision:
    """Whether a rollback needs a person, and why."""

    automatic: bool
    """The contract approved with the deployment covers it: no new approval."""
    sentence: str
    """Why, or why not."""


def decide_rollback(
    *,
    contract: RollbackContract,
    deployed_at: datetime | None,
    state: State | None,
    order: RollbackOrder,
    routing_after: str,
) -> RollbackDecision:
    """Automatic within the contract's window and only as the exact inverse of the deployment.

    Args:
        contract: Approved with the deployment.
        deployed_at: Time of the last approval of the deployment: the window starts then, at the latest. None when no
            person's approval is on record.
        state: State of the specialist before the rollback.
        order: What is asked for, and when.
        routing_after: SHA-256 of the routing that would follow.
    """
    elapsed = _elapsed(deployed_at, order.decided_at)
    refusal = _outside(contract, elapsed, state, order, routing_after)
    if refusal:
        return RollbackDecision(False, f"outside the contract: {refusal}")
    minute = f"minute {int(elapsed or 0) // 60} of the {contract.terms.window_minutes} approved with the deployment"
    return RollbackDecision(True, f"within the contract: {minute}, and routing returns to exactly what it was before")


def window_refusal(order: RollbackOrder, contract: RollbackContract, deployed_at: datetime | None) -> str | None:
    """Why the live window of an order does not show what the contract calls a loss; None when it does, or has none.

    It compares the two rates as counted: whether so few decisions can tell them apart is not asked. Who counted has a
    clock of its own, so times are compared with the tolerance between clocks.
    """
    window, terms = order.window, contract.terms
    if window is None:
        return None
    if window.metric != terms.metric:
        return f"the window counts {window.metric}, and the contract watches {terms.metric}"
    if window.ended <= window.began:
        return "the window ends before it begins"
    if window.ended > order.decided_at + CLOCK_TOLERANCE:
        return "the window ends after the rollback was asked for"
    if deployed_at is not None and window.began < deployed_at - CLOCK_TOLERANCE:
        return "the window begins before the deployment was approved"
    if window.drop <= Fraction(str(terms.max_drop)):
        return f"{rates(window)}: no drop beyond the {terms.max_drop:.1%} of the contract"
    return None


def rates(window: LiveWindow) -> str:
    """A live window in words: both rates with their counts, and the drop."""
    ours, theirs = window.specialist, window.incumbent
    change = float(window.drop)
    moved = f"{change:.1%} lower" if change >= 0 else f"{-change:.1%} higher"
    return (
        f"{window.metric} {float(ours.rate):.4f} ({ours.good} of {ours.decisions}) against "
        f"{float(theirs.rate):.4f} ({theirs.good} of {theirs.decisions}), {moved}"
    )


def window_ends(contract: RollbackContract, deployed_at: datetime) -> datetime:
    """Until when a rollback is automatic, and from when on a window can be confirmed."""
    return deployed_at + timedelta(minutes=contract.terms.window_minutes)


def readiness(contract: RollbackContract, deployed_at: datetime | None, at: datetime) -> tuple[bool, str]:
    """Whether the contract still has the previous specialist kept ready, and the same for people."""
    elapsed = _elapsed(deployed_at, at)
    hours, prior = counted(contract.terms.manual_hours, "hour"), contract.prior_specialist
    if elapsed is not None and elapsed <= contract.terms.manual_hours * 3600:
        return True, f"{prior} is kept ready for {hours} after the deployment"
    over = "is" if contract.terms.manual_hours == 1 else "are"
    return False, f"the {hours} in which {prior} is kept ready {over} over, so make sure that it can serve"


def _elapsed(start: datetime | None, at: datetime) -> float | None:
    return (at - start).total_seconds() if start else None


def _outside(
    contract: RollbackContract,
    elapsed: float | None,
    state: State | None,
    order: RollbackOrder,
    routing_after: str,
) -> str | None:
    """Why the contract does not cover it; None when it does."""
    window = contract.terms.window_minutes
    if elapsed is None:
        return "no person's approval says when the deployment began"
    if elapsed < 0:
        return "it is dated before the deployment was approved"
    if elapsed > window * 60:
        return f"its window of {counted(window, 'minute')} ended {_long(elapsed - window * 60)} ago"
    if state != "customer-deployed":
        return f"the specialist is {state} since"
    if (order.prior_specialist, order.prior_artifact) != (contract.prior_specialist, contract.prior_artifact):
        return f"traffic would return to {order.prior_specialist}, not to {contract.prior_specialist}"
    if routing_after != contract.prior_routing:
        return "routing changed since the deployment, so that it would not return to what it was before"
    return None


def _long(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    if minutes < 120:
        return counted(minutes, "minute")
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"
