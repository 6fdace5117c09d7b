"""``modelsmith live``: a deployment under watch against its incumbent, as the front door of this clone counted it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from modelsmith.evidence.live_chart import live_chart
from modelsmith.governance.routing import hold_of
from modelsmith.governance.window import Judgement, judge, lopsided, trip_evidence
from modelsmith.live.latch import Latched, Latches
from modelsmith.live.watching import Watching
from modelsmith.loop.shadow import Shadow, look_at_shadow
from modelsmith.loop.window import Ended, WindowView, last_ended, live_folder, look, watching_of
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pictures import Svg, write_picture
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Event
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.live import Counts
from modelsmith.schema.live_evidence import Finding, Judged
from modelsmith.schema.steps import Step, step


class LiveRequest(Request):
    """Shows the window of a cluster: each metric with its bounds, what is left of the time, and what would trip.

    Run it in the clone of the front door: counts and latch lie there. It reads them and changes nothing, however often
    it is called: the evidence may be looked at after every event. Where no window is open, it shows the last one that
    ended, as main has it, in any clone. Ends with 0 whatever the window shows.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/."), ARGUMENT]
    shadow: Annotated[
        bool, Field(description="Show who gets copies of requests before it is deployed, not the window.")
    ] = False
    svg: Svg = None


class LiveResult(Result):
    """A cluster's window as it stands now, or its shadow: `WindowResult` or `ShadowResult`, in one form for readers."""

    cluster: str
    specialist: str
    record: str
    """Digest of the record that deployed it; in the shadow, of its last one."""
    stage: Literal["window", "shadow"]
    """``shadow``: it gets copies of requests, and nobody gets its answers."""
    compared: int
    """Answers in the shadow of which it is known whether they say something else than the caller got."""
    differing: int
    opens: datetime | None
    """None in the shadow, as for all times: it goes on until somebody deploys it."""
    closes: datetime | None
    """Until when traffic goes back by itself, and from when on production can validate it."""
    minutes_left: float
    """Tenths of minutes, rounded up: 0 says that it is over."""
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
    ended_by: Event | None
    """The event on main that ended the window; None while it is open."""
    svg: str | None
    next: Step


class WindowResult(LiveResult):
    """A deployment's window, open or ended: nothing is copied in it."""

    stage: Literal["window"] = "window"
    compared: Literal[0] = 0
    differing: Literal[0] = 0
    opens: datetime
    closes: datetime
    svg: str | None = None


class ShadowResult(LiveResult):
    """A specialist in the shadow: it has no end, and nothing to take back."""

    stage: Literal["shadow"] = "shadow"
    opens: None = None
    closes: None = None
    minutes_left: float = 0.0
    latched_at: None = None
    latched: Literal[False] = False
    ended_by: None = None
    svg: str | None = None


def run(workspace: Workspace, request: LiveRequest) -> LiveResult:
    """Look at a cluster's window."""
    main = read_governed_state(workspace.git, "HEAD")
    live_view = _find(workspace, main, request)
    if not request.svg:
        return live_view
    place = "in the shadow" if isinstance(live_view, ShadowResult) else "in production"
    chart = live_chart(f"{live_view.specialist} {place}", live_view.outcome, live_view.findings, _line(live_view))
    return live_view.model_copy(update={"svg": write_picture(workspace, request.svg, chart)})


def _find(workspace: Workspace, main: GovernedState, request: LiveRequest) -> WindowResult | ShadowResult:
    """The shadow where it is asked for; else the open window, or the last one that ended."""
    if request.shadow:
        return _copied(look_at_shadow(workspace, main, request.cluster))
    try:
        return _open(look(workspace, main, request.cluster))
    except InvalidInput as error:
        watched = error.code != "no-window" or watching_of(main, request.cluster)
        ended = None if watched else last_ended(main, request.cluster)
        if ended is None:
            load_cluster(main.tree, request.cluster)
            raise
        return _over(workspace, main, ended)


def _copied(shadow: Shadow) -> ShadowResult:
    shadowed, cluster = shadow.shadowed, shadow.shadowed.cluster
    due = {
        "confirm": step("promote", {"cluster": cluster}),
        "roll-back": step("iterate", {"cluster": cluster}),
        "inconclusive": step("live", {"cluster": cluster}, shadow=True),
    }
    return ShadowResult(
        cluster=cluster,
        specialist=shadowed.specialist,
        record=shadowed.record,
        compared=shadow.compared,
        differing=shadow.differing,
        outcome=shadow.judgement.outcome,
        reasons=shadow.judgement.reasons,
        findings=shadow.judgement.findings,
        trips_at=shadow.trips_at,
        counts=shadow.counts,
        next=due[shadow.judgement.outcome],
    )


def _open(view: WindowView) -> WindowResult:
    minutes_left = math.ceil(max(0.0, (view.watching.closes - view.at).total_seconds() / 6)) / 10
    latched = (view.is_latched, view.latched)
    return _window(view.watching, view.judgement, view.counts, latched, minutes_left, None, _next(view))


def _over(workspace: Workspace, main: GovernedState, ended: Ended) -> WindowResult:
    """Its figures are the evidence's, which gate and `verify` recompute. On hold, a person is next."""
    watching, live = ended.watching, ended.live
    latches = Latches(live_folder(workspace) / "latches")
    reasons = judge(live.terms, live.counts, ended=live.at >= watching.closes).reasons
    judged = Judgement(live.outcome, reasons, live.findings)
    latched = (latches.is_set(watching.record), latches.read(watching.record))
    cluster = watching.cluster
    hold = hold_of(cluster, main.histories.of_cluster(cluster))
    due = step("rollback", {"cluster": cluster}, clear_hold=True) if hold else step("iterate", {"cluster": cluster})
    return _window(watching, judged, live.counts, latched, 0.0, ended.event, due)


def _window(
    watching: Watching,
    judged: Judgement,
    counts: Counts | None,
    latched: tuple[bool, Latched | None],
    minutes_left: float,
    ended_by: Event | None,
    following: Step,
) -> WindowResult:
    is_latched, latch = latched
    return WindowResult(
        cluster=watching.cluster,
        specialist=watching.specialist,
        record=watching.record,
        opens=watching.opens,
        closes=watching.closes,
        minutes_left=minutes_left,
        outcome=judged.outcome,
        reasons=judged.reasons + (lopsided(watching.terms, counts) if judged.outcome == "roll-back" else ()),
        findings=judged.findings,
        trips_at=trip_evidence(watching.terms),
        counts=counts,
        latched_at=latch.at if latch else None,
        latched=is_latched,
        ended_by=ended_by,
        next=following,
    )


def _line(result: WindowResult | ShadowResult) -> str:
    stages = result.counts.stages if result.counts else ()
    mine, theirs = sum(stage.specialist for stage in stages), sum(stage.incumbent for stage in stages)
    if isinstance(result, ShadowResult):
        note = f"{result.differing} of {result.compared} answers differ"
    elif result.ended_by:
        note = f"ended as {result.ended_by}"
    else:
        note = f"{result.minutes_left:g} minutes left" if result.minutes_left else "its time is over"
    return f"{mine} decisions of the specialist, {theirs} of the incumbent; {note}"


def _next(view: WindowView) -> Step:
    cluster = view.watching.cluster
    if view.is_latched:
        return step("status", {})
    if view.judgement.outcome == "confirm":
        return step("promote", {"cluster": cluster})
    if view.judgement.outcome == "roll-back":
        return step("rollback", {"cluster": cluster}, reason="WHY")
    return step("live", {"cluster": cluster})
