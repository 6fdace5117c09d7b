"""``modelsmith live``: a deployment under watch against its incumbent, as the front door of this clone counted it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from modelsmith.evidence.live_chart import live_chart
from modelsmith.loop.window import Seen, look
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pictures import Svg, write_picture
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.live import Counts
from modelsmith.schema.live_evidence import Finding, Judged
from modelsmith.schema.steps import Step, step


class LiveRequest(Request):
    """Shows the window of a cluster: each metric with its bounds, what is left of the time, and what would trip.

    Run it in the clone of the front door: counts and latch lie there. It reads them and changes nothing, however often
    it is called: the evidence may be looked at after every event. Ends with 0 whatever the window shows.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/."), ARGUMENT]
    svg: Svg = None


class LiveResult(Result):
    """One window now."""

    cluster: str
    specialist: str
    record: str
    """Digest of the record that deployed it."""
    opens: datetime
    closes: datetime
    """Until when traffic goes back by itself, and from when on production can validate it."""
    minutes_left: float
    outcome: Judged
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    trips_at: float
    """log10 of the evidence that a metric needs to be worse, for traffic to go back."""
    counts: Counts | None
    """None before the first decision."""
    latched_at: datetime | None
    """When the front door took it back; None while it has not, or where the latch is damaged, which holds."""
    latched: bool
    svg: str | None
    next: Step


def run(workspace: Workspace, request: LiveRequest) -> LiveResult:
    """Look."""
    seen = look(workspace, read_governed_state(workspace.git, "HEAD"), request.cluster)
    one = seen.watching
    left = max(0.0, (one.closes - seen.at).total_seconds() / 60)
    picture = None
    if request.svg:
        title = f"{one.specialist} in production"
        picture = write_picture(
            workspace,
            request.svg,
            live_chart(title, seen.judgement.outcome, seen.judgement.findings, _line(seen, left)),
        )
    return LiveResult(
        cluster=one.cluster,
        specialist=one.specialist,
        record=one.record,
        opens=one.opens,
        closes=one.closes,
        minutes_left=round(left, 1),
        outcome=seen.judgement.outcome,
        reasons=seen.judgement.reasons,
        findings=seen.judgement.findings,
        trips_at=seen.trips_at,
        counts=seen.counts,
        latched_at=seen.latched.at if seen.latched else None,
        latched=seen.is_latched,
        svg=picture,
        next=_next(seen),
    )


def _line(seen: Seen, left: float) -> str:
    stages = seen.counts.stages if seen.counts else ()
    mine, theirs = sum(one.specialist for one in stages), sum(one.incumbent for one in stages)
    more = f"{left:.0f} minutes left" if left else "its time is over"
    return f"{mine} decisions of the specialist, {theirs} of the incumbent; {more}"


def _next(seen: Seen) -> Step:
    cluster = seen.watching.cluster
    if seen.is_latched:
        return step("status", {})
    if seen.judgement.outcome == "confirm":
        return step("promote", {"cluster": cluster})
    if seen.judgement.outcome == "roll-back":
        return step("rollback", {"cluster": cluster}, reason="WHY")
    return step("live", {"cluster": cluster})
