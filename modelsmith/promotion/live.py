"""Live evidence against main: what the front door counted comes to what it says, by the rule that people approved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from modelsmith.governance.keys import CLOCK_TOLERANCE
from modelsmith.governance.rollback import window_ends
from modelsmith.governance.states import SpecialistHistory
from modelsmith.governance.window import Judgement, guards, judge
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.observers import ObserverSeal, unseal_observed
from modelsmith.promotion.rollbacks import Deployment, deployment_of
from modelsmith.promotion.serving import compared, routing_obeyed
from modelsmith.repository.load import load_cluster
from modelsmith.schema.base import Event
from modelsmith.schema.canonical import digest, parse_canonical
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.live_evidence import LIVE_FILE, LIVE_SIGNATURE, LIVE_TYPE, Finding, Judged, LiveEvidence
from modelsmith.schema.promotion import PromotionRecord

_SAME = 1e-4
"""Figures that differ less are the same: mathematical libraries differ in the last place."""
_LATE = 0.1
"""Part of the window after which a first decision is late."""
_REPLAYED = timedelta(hours=2)
"""By how much evidence may be older where history is replayed: a forge that merges by itself had it judged within the
hour before, and clocks differ."""
DUE: Mapping[Event, Judged] = {
    "customer-deployed": "confirm",
    "production-validated": "confirm",
    "rolled-back": "roll-back",
}
"""What live evidence must come to for each event that it may speak for."""


def read_live(files: Mapping[str, bytes]) -> LiveEvidence | None:
    """The live evidence among the files of an event; None where there is none.

    Raises:
        IntegrityFailure: ``bad-file``.
    """
    data = files.get(LIVE_FILE)
    return None if data is None else parse_canonical(LIVE_FILE, data, LiveEvidence)


def needs_live(main: GovernedState, specialist: str) -> bool:
    """Whether production can validate the specialist only on live evidence: its contract names a rule.

    Of one that was never deployed nothing is asked here; its life refuses the event.
    """
    history = main.histories.by_specialist.get(specialist)
    deployments = [record for record in history.records if record.event == "customer-deployed"] if history else []
    contract = deployments[-1].rollback if deployments else None
    return contract is not None and contract.terms.rule is not None


def needs_shadow(main: GovernedState) -> bool:
    """Whether policy lets nobody deploy a specialist that has not held in the shadow."""
    return any(transition.shadow for transition in main.policy.transitions if transition.event == "customer-deployed")


def shadow_age(main: GovernedState) -> timedelta:
    """How old the oldest copy in evidence of a shadow may be when the deployment is merged."""
    return timedelta(
        hours=min(
            transition.shadow_hours for transition in main.policy.transitions if transition.event == "customer-deployed"
        )
    )


def seal_of(live: LiveEvidence) -> ObserverSeal:
    """The seal that live evidence has to carry: whose signature, over which file, with which statement."""
    predicate = {"observer": live.observer, "specialist": live.specialist, "deployment": live.deployment}
    return ObserverSeal(live.observer, LIVE_FILE, LIVE_TYPE, predicate)


def check_live(
    main: GovernedState,
    record: PromotionRecord,
    files: Mapping[str, bytes],
    now: datetime | None,
    latest_signed: datetime,
) -> str:
    """Live evidence of an event is an observer's, about this deployment, recomputes, and comes to what is due.

    Args:
        main: Main before the event.
        record: The event.
        files: Its files.
        now: The present of whoever merges; None when history is replayed.
        latest_signed: A time that the merge is not before.

    Raises:
        IntegrityFailure: ``check-failed``, with ``verdict`` INCONCLUSIVE where the window could not tell; as
            `unseal_observed`.
    """
    live = read_live(files)
    history = main.histories.find(record.specialist)
    if live is None:
        asks = "policy asks" if record.event == "customer-deployed" else "the contract's rule asks"
        raise _refused(f"{asks} for {LIVE_FILE}: what the front door counted, signed by it")
    unseal_observed(main, history, files.get(LIVE_SIGNATURE, b""), files[LIVE_FILE], seal_of(live))
    if record.event == "customer-deployed":
        return _check_shadow(main, record, history, live, now, latest_signed)
    deployment = deployment_of(main, record.specialist)
    refusal = _elsewhere(main, history, live, deployment) or untimely(live, deployment, now)
    if refusal:
        raise _refused(f"{LIVE_FILE}: {refusal}")
    problem = _check_outcome(record, live, judge(live.terms, live.counts, ended=_ended(live, deployment)))
    return problem + _left_out(live, deployment)


def _check_shadow(
    main: GovernedState,
    record: PromotionRecord,
    history: SpecialistHistory,
    live: LiveEvidence,
    now: datetime | None,
    latest_signed: datetime,
) -> str:
    """What the shadow showed is of late, of this specialist as it is on main, beside who serves now, by these terms."""
    terms = record.rollback.terms if record.rollback else None
    refusal = _of_others(main, history, live)
    if live.deployment != history.digests[-1]:
        refusal = refusal or "it was counted before the specialist's last record"
    if live.terms.rule is None or live.terms != terms:
        refusal = refusal or "its terms are not those that are to be approved"
    elif not guards(live.terms):
        refusal = refusal or "the rule has no guard, and answers that reach nobody have no other measure"
    elif live.beside != compared(main, load_cluster(main.tree, history.cluster)):
        refusal = refusal or "main asks, or holds answers to, something else than when it was counted"
    if not live.counts.began <= live.counts.ended <= live.at + CLOCK_TOLERANCE:
        refusal = refusal or "its times do not follow each other: first decision, last decision, judgement"
    if now is not None and live.at > now + CLOCK_TOLERANCE:
        refusal = refusal or "it is dated in the future"
    age = shadow_age(main)
    if latest_signed - live.counts.began > age + (timedelta() if now else _REPLAYED):
        hours = int(age.total_seconds()) // 3600
        refusal = refusal or f"its copies begin at {live.counts.began:%Y-%m-%d %H:%M} UTC, over {hours} hours before"
    if refusal:
        raise _refused(f"{LIVE_FILE}: {refusal}")
    judged = judge(live.terms, live.counts, ended=True, metrics=guards(live.terms))
    return "in the shadow, " + _check_outcome(record, live, judged)


def _check_outcome(record: PromotionRecord, live: LiveEvidence, judged: Judgement) -> str:
    if live.outcome != judged.outcome or not _alike(live.findings, judged.findings):
        raise _refused(f"{LIVE_FILE} says another outcome than its own counts come to: {judged.outcome}")
    if judged.outcome != DUE[record.event]:
        raise _refused(
            f"the live window is {judged.outcome}: {'; '.join(judged.reasons)}",
            verdict="INCONCLUSIVE" if judged.outcome == "inconclusive" else "FAIL",
        )
    return f"by {live.observer}: {'; '.join(judged.reasons)}"


def _elsewhere(
    main: GovernedState, history: SpecialistHistory, live: LiveEvidence, deployment: Deployment
) -> str | None:
    """Why it speaks of something else; None when it does not."""
    if refusal := _of_others(main, history, live):
        return refusal
    if live.deployment != digest(deployment.record):
        return "it is about another deployment"
    if live.terms.rule is None or live.terms != deployment.contract.terms:
        return "its terms are not those that were approved with the deployment"
    return None


def _of_others(main: GovernedState, history: SpecialistHistory, live: LiveEvidence) -> str | None:
    if (live.cluster, live.specialist) != (history.cluster, history.specialist):
        return f"it is about {live.specialist} of {live.cluster}"
    if live.routing != routing_obeyed(main, history.cluster):
        return "the door obeyed another routing than main's"
    return None


def untimely(live: LiveEvidence, deployment: Deployment, now: datetime | None) -> str | None:
    """Why its times cannot be, as after a step of the door's clock; None when they can."""
    approved = deployment.approved_at
    if approved is None:
        return "no person's approval says when its window began"
    if not approved - CLOCK_TOLERANCE <= live.counts.began <= live.counts.ended <= live.at + CLOCK_TOLERANCE:
        return "its times do not follow each other: approval, first decision, last decision, judgement"
    if now is not None and live.at > now + CLOCK_TOLERANCE:
        return "it is dated in the future"
    return None


def _left_out(live: LiveEvidence, deployment: Deployment) -> str:
    """A note for approvers, where counting began long after the window.

    Whoever lets a door count anew until the counts confirm, or shows those of the luckiest of several doors, has other
    chances than the rule allows; and a store that was lost is no fault. So it is told, and a person decides.
    """
    approved = deployment.approved_at
    late = live.counts.began - approved if approved else timedelta()
    if late <= timedelta(minutes=deployment.contract.terms.window_minutes) * _LATE:
        return ""
    minutes = int(late.total_seconds()) // 60
    return f"; its counts begin {minutes} minutes after the approval: what was decided before is not among them"


def _ended(live: LiveEvidence, deployment: Deployment) -> bool:
    return deployment.approved_at is not None and live.at >= window_ends(deployment.contract, deployment.approved_at)


def _alike(stated: tuple[Finding, ...], due: tuple[Finding, ...]) -> bool:
    """Whether figures are the same, but for what two mathematical libraries make of them."""
    if [(finding.metric, finding.scale, finding.allowed) for finding in stated] != [
        (finding.metric, finding.scale, finding.allowed) for finding in due
    ]:
        return False
    pairs = [
        (getattr(mine, name), getattr(theirs, name))
        for mine, theirs in zip(stated, due, strict=True)
        for name in ("loss", "least", "most", "worse", "held")
    ]
    return all(a == b or (None not in (a, b) and math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME)) for a, b in pairs)


def _refused(message: str, **details: str) -> IntegrityFailure:
    return IntegrityFailure("check-failed", message, "Prepare the promotion again.", **details)
