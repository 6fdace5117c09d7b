"""The shadow before a deployment: copies of requests that nobody gets the answer of, and what they show.

Both models answer each copied request, so they are compared with equal shares, and by the guards of the rule alone:
there is no outcome of an answer that reached nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from modelsmith.governance.states import SpecialistHistory
from modelsmith.governance.window import Judgement, Watched, guards, judge, trip_evidence
from modelsmith.live.store import DIFFERS
from modelsmith.live.unloaded import why_unloaded
from modelsmith.live.watching import Shadowed
from modelsmith.loop.window import counts_of, live_folder, proposed, sealed_evidence
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.live import needs_shadow, read_live, shadow_age
from modelsmith.promotion.serving import compared, shadow, shadowed_as
from modelsmith.repository.load import cluster_names, load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import GateNotCleared, InvalidInput, ModelsmithError, WaitingForPerson
from modelsmith.schema.live import Counts
from modelsmith.schema.steps import step


class Shadow(NamedTuple):
    """A shadow as it stands now: what was counted, and what that comes to."""

    shadowed: Shadowed
    counts: Counts | None
    judgement: Judgement
    trips_at: float
    """log10 of the evidence by which it is worse."""
    compared: int
    """Answers of which it is known whether they differ from what the caller got."""
    differing: int
    at: datetime


def shadowing(main: GovernedState) -> tuple[Shadowed, ...]:
    """The specialist in the shadow of each cluster that has one; a cluster that does not load has none."""
    return tuple(shadowed for name in cluster_names(main.tree) if (shadowed := _shadowed(main, name)))


def look_at_shadow(workspace: Workspace, main: GovernedState, cluster: str) -> Shadow:
    """Outcome of a shadow of this clone's door now; it changes nothing.

    Raises:
        InvalidInput: ``no-shadow``.
        InfrastructureFailure: ``counts-unreadable``.
    """
    shadowed = _shadowed(main, cluster)
    if shadowed is None:
        raise InvalidInput(
            "no-shadow",
            f"{cluster} has no shadow: no specialist is exported and not yet deployed, or the cluster file has no "
            "deployment.shadow_share",
            "See `{next}`.",
            cluster=cluster,
        ).then(step("status", {}))
    return look_at(workspace, shadowed)


def look_at(workspace: Workspace, shadowed: Shadowed) -> Shadow:
    """As `look_at_shadow`, of a shadow that is known. Raises InfrastructureFailure (``counts-unreadable``).

    Counts of two periods are of late enough to be evidence. That it is worse counts, whichever of them shows it; then
    that it holds, the newer one first.
    """
    metrics, at = guards(shadowed.terms), datetime.now(UTC).replace(microsecond=0)
    looked = [_judged(workspace, shadowed, name, metrics) for name in shadowed.counting(at)]
    decided = {period.judgement.outcome: period for period in reversed(looked)}
    period = decided.get("roll-back") or decided.get("confirm") or looked[0]
    judgement = period.judgement
    if why := why_unloaded(live_folder(workspace), shadowed.cluster, shadowed.record):
        judgement = judgement._replace(reasons=(*judgement.reasons, f"the front door: {why}"))
    return Shadow(
        shadowed,
        period.counts,
        judgement,
        trip_evidence(shadowed.terms, metrics),
        period.compared,
        period.differing,
        at,
    )


class _Period(NamedTuple):
    """Counts of the copies of one period."""

    counts: Counts | None
    compared: int
    differing: int
    judgement: Judgement


def _judged(workspace: Workspace, shadowed: Shadowed, name: str, metrics: tuple[Watched, ...]) -> _Period:
    counts_all = counts_of(live_folder(workspace), name, [*(metric.name for metric in metrics), DIFFERS])
    counts, compared, differing = _apart(counts_all) if counts_all else (None, 0, 0)
    return _Period(counts, compared, differing, judge(shadowed.terms, counts, ended=True, metrics=metrics))


def require_shadow(workspace: Workspace, main: GovernedState, history: SpecialistHistory) -> Shadow | None:
    """Go on only where policy asks for no shadow, or the specialist held in it; what it showed, if it is asked for.

    Raises:
        WaitingForPerson: ``unshadowed`` while it cannot tell, or there is none.
        GateNotCleared: ``window-worse``.
    """
    if not needs_shadow(main):
        return None
    try:
        look = look_at_shadow(workspace, main, history.cluster)
    except InvalidInput as error:
        raise _unshadowed(history, error.message) from None
    if look.shadowed.specialist != history.specialist:
        other = look.shadowed.specialist
        raise WaitingForPerson(
            "unshadowed",
            f"Policy asks that {history.specialist} holds in the shadow first, and {other} is in its place, which is "
            "newer or made from it",
            "Deploy that one, or retire it with `{next}`: the shadow goes to the next newest.",
            specialist=history.specialist,
            shadowed=other,
            waiting_for=[],
        ).then(step("promote", {"cluster": history.cluster, "specialist": other}, to="deprecated"))
    reasons = "; ".join(look.judgement.reasons)
    if look.judgement.outcome == "roll-back":
        raise GateNotCleared(
            "window-worse",
            f"{history.specialist} is worse in the shadow than its contract would allow: {reasons}",
            "Let the next iteration answer what it fails at: `{next}`.",
            specialist=history.specialist,
        ).then(step("iterate", {"cluster": history.cluster}))
    if look.judgement.outcome == "inconclusive":
        raise _unshadowed(history, reasons)
    return look


def shadow_files(harness: Harness, main: GovernedState, history: SpecialistHistory) -> dict[str, bytes]:
    """What the shadow showed, signed by the door; nothing where policy asks for none. Raises as `require_shadow`."""
    look = require_shadow(harness.workspace, main, history)
    if look is None:
        return {}
    assert look.counts
    proposal = proposed(harness, main, history, "customer-deployed", look.shadowed)
    live = read_live(proposal)
    if live and look.at - live.counts.began < look.shadowed.age:
        return proposal
    return sealed_evidence(harness, main, look.shadowed, look.counts, look.at, look.judgement)


def _shadowed(main: GovernedState, name: str) -> Shadowed | None:
    try:
        cluster = load_cluster(main.tree, name)
        arm = shadow(main, name) if cluster.deployment.shadow_share else None
        if arm is None:
            return None
        return Shadowed(
            name,
            arm.specialist,
            arm.record,
            cluster.rollback,
            shadowed_as(main, cluster, arm),
            compared(main, cluster),
            shadow_age(main),
        )
    except ModelsmithError:
        return None


def _apart(counts: Counts) -> tuple[Counts, int, int]:
    """The guards' counts, and of how many answers it is known whether they differ, and how many do."""
    differs = [metric for stage in counts.stages for metric in stage.metrics if metric.metric == DIFFERS]
    stages = tuple(
        stage.model_copy(update={"metrics": tuple(metric for metric in stage.metrics if metric.metric != DIFFERS)})
        for stage in counts.stages
    )
    compared_count, events = (
        sum(metric.specialist_known for metric in differs),
        sum(metric.specialist for metric in differs),
    )
    return counts.model_copy(update={"stages": stages}), compared_count, events


def _unshadowed(history: SpecialistHistory, why: str) -> WaitingForPerson:
    return WaitingForPerson(
        "unshadowed",
        f"Policy asks that {history.specialist} holds in the shadow first, and that cannot be told yet: {why}",
        "Let the front door copy requests to it, look with `{next}`, and promote it then.",
        specialist=history.specialist,
        waiting_for=[],
    ).then(step("live", {"cluster": history.cluster}, shadow=True))
