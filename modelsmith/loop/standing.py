"""The state of a cluster's run in six words, as people who govern it speak of it. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from modelsmith.loop.iteration import Ended, Fault, Iteration, ToAssess, Untrained, Waiting
from modelsmith.schema.base import State
from modelsmith.schema.errors import Exit

RunState = Literal["queued", "active", "assessing", "promoted", "blocked", "rolled back"]
"""``queued``: nothing runs, and nothing but a call of `iterate` is missing. ``active``: a process works on it.
``assessing``: its candidate is being evaluated. ``promoted``: its specialist serves. ``blocked``: see `Blocked`.
``rolled back``: traffic was taken from its cluster's specialist, and nobody has cleared that yet."""
Blocked = Literal["quality", "governance", "infrastructure"]
"""By what: a bar that was not reached; a person or a rule; a machine, disk or network."""

SERVES: frozenset[State] = frozenset({"customer-deployed", "production-validated"})


class Standing(NamedTuple):
    """State of a run in one word, and what blocks it."""

    state: RunState
    blocked_by: Blocked | None = None
    """Why it is blocked; only where the state is ``blocked``."""


def standing(iteration: Iteration | None, specialist: State | None, *, running: bool, on_hold: bool) -> Standing:
    """Where the run of a cluster stands.

    Args:
        iteration: The latest; None before the first.
        specialist: State of its specialist on main; None where it has none.
        running: Whether a process iterates the cluster at this moment.
        on_hold: Whether main holds the cluster after a rollback.
    """
    if running:
        return Standing("assessing" if isinstance(iteration, ToAssess) else "active")
    if on_hold:
        return Standing("rolled back")
    if iteration is None:
        return Standing("queued")
    if iteration.error:
        return Standing("blocked", _by(iteration.error))
    if specialist in SERVES:
        return Standing("promoted")
    if isinstance(iteration, Waiting):
        return Standing("blocked", "governance")
    if not isinstance(iteration, Untrained | Ended):
        return Standing("queued")
    if iteration.outcome != "PASS":
        return Standing("blocked", "quality")
    return Standing("blocked", "governance") if isinstance(iteration, Ended) else Standing("queued")


def _by(error: Fault) -> Blocked:
    """A training that a tripwire ended did not become better, whatever its settings were."""
    if error.exit == Exit.INFRASTRUCTURE:
        return "infrastructure"
    return "quality" if error.exit == Exit.GATE_NOT_CLEARED or error.code == "training-tripped" else "governance"
