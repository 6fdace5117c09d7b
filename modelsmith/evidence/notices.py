"""Bodies of the short pull requests: a rollback, the end of a hold, a retirement. Pure functions, first things first.

The first lines are for whoever is woken at night: what serves, what will serve, why, who decides. At most ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from modelsmith.evidence.live_notice import live_section
from modelsmith.evidence.markdown import safe, short
from modelsmith.governance.hold import Hold
from modelsmith.governance.rollback import RollbackDecision, rates
from modelsmith.governance.states import SpecialistHistory
from modelsmith.governance.window import judge
from modelsmith.schema.cluster import Routing
from modelsmith.schema.figures import counted
from modelsmith.schema.live_evidence import LiveEvidence
from modelsmith.schema.promotion import Override, PromotionRecord, RollbackContract, RollbackOrder

NO_REASON = "no reason was given"


def rollback_notice(
    deployment: PromotionRecord,
    order: RollbackOrder,
    decision: RollbackDecision,
    ready: str,
    routing: tuple[Routing, Routing],
    deciders: Sequence[str],
    live: LiveEvidence | None,
) -> str:
    """Body of a rolled-back pull request.

    Args:
        deployment: The record that is undone.
        order: What was asked for.
        decision: Whether the contract covers it.
        ready: Whether who served before is still kept ready.
        routing: Who serves before and after.
        deciders: Roles that decide it when the contract does not.
        live: What the front door counted, if that is why.
    """
    before, after = routing
    roles = " or ".join(f"**{role}**" for role in deciders)
    decides = "nobody further; the approval of the deployment was the approval of this" if decision.automatic else roles
    lines = [
        f"**ROLLBACK** of {safe(deployment.specialist)} in {deployment.cluster}",
        "",
        f"- Serves now: {shares(before)}",
        f"- Will serve: {shares(after)}",
        f"- Why: {_why(order, live)}",
        f"- Approval: {safe(decision.sentence)}",
        f"- Decides: {decides}",
        f"- Ready: {safe(ready)}",
        f"- Then: {deployment.cluster} is on hold; `modelsmith rollback {deployment.cluster} --clear-hold` ends that",
    ]
    live_part = ["", live_section(live)] if live else []
    return "\n".join([*lines, "", *_details(deployment, order), *live_part]) + "\n"


def hold_notice(hold: Hold, rolled_back: RollbackOrder, routing: Routing, deciders: Sequence[str], reason: str) -> str:
    """Body of a hold-cleared pull request."""
    when = f"{rolled_back.decided_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    lines = [
        f"**CLEAR THE HOLD** on {hold.cluster}",
        "",
        f"- Serves now, and after it: {shares(routing)}",
        f"- Held since: {safe(hold.specialist)} was rolled back, {when}: {safe(rolled_back.reason) or NO_REASON}",
        f"- Why clear it: {safe(reason) or NO_REASON}",
        "- Then: a specialist may be proposed for deployment again; each deployment still needs its own approval",
        f"- Decides: {' or '.join(f'**{role}**' for role in deciders)}",
        "",
        f"Rolled-back record {short(hold.record)}.",
    ]
    return "\n".join(lines) + "\n"


def retirement_notice(
    history: SpecialistHistory,
    routing: tuple[Routing, Routing],
    watched: Sequence[tuple[str, RollbackContract]],
    deciders: Sequence[str],
    exports: Sequence[SpecialistHistory] = (),
) -> str:
    """Body of a deprecated pull request.

    Args:
        history: Who is retired.
        routing: Who serves before and after.
        watched: Specialists under watch, each with the contract of its deployment.
        deciders: Roles that decide it.
        exports: Exports that were made from it.
    """
    before, after = routing
    moved = before != after
    returning = [name for name, contract in watched if contract.prior_specialist == history.specialist]
    lines = [
        f"**RETIRE** {safe(history.specialist)} of {history.cluster} ({history.state})",
        "",
        f"- Serves now: {shares(before)}",
        f"- Will serve: {shares(after)}" + (" - **this moves live traffic**" if moved else ", unchanged"),
        *(
            f"- **{name}** is under watch and its contract returns to it: a rollback will need a person"
            for name in returning
        ),
        *(
            f"- Stays as it is: its export {safe(export.specialist)} ({export.state}), retired by itself"
            for export in exports
        ),
        "- Final: it serves nothing any more and nothing is trained from it; no event follows",
        "- Kept: artifact, evidence and records stay addressable (`modelsmith lineage`, `compare`, `verify`)",
        f"- Decides: {' or '.join(f'**{role}**' for role in deciders)}",
        "",
        f"Artifact `{history.artifact}`.",
    ]
    return "\n".join(lines) + "\n"


def override_notice(override: Override, role: str | None, approved_by: Sequence[str]) -> str:
    """What stands above everything else in the packet of an eval that counts, or is to count, by an override.

    Args:
        override: What was asked.
        role: Who decides about it, while that is asked.
        approved_by: Who let it count, once it is on main.
    """
    if approved_by:
        names = ", ".join(safe(name) for name in approved_by)
        head = f"**THIS EVAL WAS INCONCLUSIVE.** It counts because {names} overrode that, by an approval on main."
    else:
        head = (
            "**OVERRIDE OF AN INCONCLUSIVE.** This eval did not pass: there are too few data to tell. Whoever approves "
            f"this as **{role or 'nobody, by the policy'}** lets it count all the same, and signs for the reason below."
        )
    return f"{head}\n\n- Asked by: {safe(override.asked_by)}\n- Why, in their words: {safe(override.reason)}"


def shares(routing: Routing) -> str:
    """Shares of the traffic, in words."""
    return ", ".join(f"{safe(serving.specialist)} {serving.share * 100:g}%" for serving in routing.serving)


def _why(order: RollbackOrder, live: LiveEvidence | None) -> str:
    if live:
        return safe("; ".join(judge(live.terms, live.counts, ended=False).reasons))
    reason = safe(order.reason) or NO_REASON
    return f"{safe(rates(order.window))}. {reason}" if order.window else reason


def _details(deployment: PromotionRecord, order: RollbackOrder) -> list[str]:
    rows = [
        ("undoes", f"record {deployment.sequence} of {safe(deployment.specialist)}, {short(order.undoes)}"),
        ("returns to", f"{safe(order.prior_specialist)}, {_artifact(order.prior_artifact)}"),
        ("takes away", _artifact(deployment.artifact)),
        ("asked for", f"{order.decided_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {order.trigger}"),
    ]
    if order.window:
        began, ended = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in (order.window.began, order.window.ended))
        rows.append(("live window", f"{began} to {ended} UTC, as reported; the counts are nobody's but the reporter's"))
    if deployment.rollback:
        terms = deployment.rollback.terms
        rows.append(
            (
                "contract",
                f"{terms.metric}, drop of {terms.max_drop:.1%} of the incumbent's, "
                f"{counted(terms.window_minutes, 'minute')}; by hand for {counted(terms.manual_hours, 'hour')}",
            )
        )
        rows.append(("routing before", short(deployment.rollback.prior_routing)))
    return ["### Details", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _artifact(digest: str | None) -> str:
    return f"artifact {short(digest)}" if digest else "no artifact of its own"
