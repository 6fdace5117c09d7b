"""What production showed, for reviewers: each metric with its bounds, counts and what the rule allows. Pure."""

from __future__ import annotations

from datetime import UTC

from modelsmith.evidence.markdown import safe, short, table
from modelsmith.governance.window import guards, judge, loss_text
from modelsmith.schema.live import Counts
from modelsmith.schema.live_evidence import Finding, LiveEvidence

_WORDS = {"confirm": "CONFIRMED", "roll-back": "WORSE THAN ALLOWED", "inconclusive": "INCONCLUSIVE"}


def live_section(live: LiveEvidence, in_shadow: bool = False) -> str:
    """The packet's section on a window, or on the shadow before a deployment."""
    # Reasons are made anew from the counts: no text of the evidence is believed.
    metrics = guards(live.terms) if in_shadow else None
    reasons = judge(live.terms, live.counts, ended=live.outcome == "confirm", metrics=metrics).reasons
    rows = [("Metric", "Specialist", "Incumbent", "Loss", "Excluded", "Allowed")]
    rows += [finding_row(finding, live.counts) for finding in live.findings]
    rule = live.terms.rule
    began, ended = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in (live.counts.began, live.counts.ended))
    lines = [
        "### What the shadow showed" if in_shadow else "### What production showed",
        "",
        *(
            ["It answered copies of live requests; nobody got its answers, so no outcome is among these.", ""]
            if in_shadow
            else []
        ),
        f"**{_WORDS[live.outcome]}**: {safe('; '.join(reasons))}.",
        "",
        *(table(rows, "lrrrrr"),),
        "",
        f"Decisions from {began} to {ended} UTC, each sticky key once; counted and signed by {safe(live.observer)}, an "
        "observer by main. Every figure is recomputed from the counts by gate and `verify`. The counts are the door's "
        "word, and the outcomes the application's.",
    ]
    if rule:
        lines += [
            "",
            f"Error probability {rule.error_probability:g} over the whole window and all metrics, however often it was "
            f"looked at; at least {rule.least_decisions} decisions on each side. Routing {short(live.routing)}.",
        ]
    return "\n".join(lines)


def finding_row(finding: Finding, counts: Counts | None) -> tuple[str, str, str, str, str, str]:
    """One metric as cells: name, both rates with their counts, the loss, what it is excluded to be, the limit."""
    relative = finding.scale == "relative"
    mine = theirs = mine_of = theirs_of = 0
    for stage in counts.stages if counts else ():
        for metric in stage.metrics:
            if metric.metric == finding.metric:
                mine, theirs = mine + metric.specialist, theirs + metric.incumbent
                mine_of += stage.specialist if relative else metric.specialist_known
                theirs_of += stage.incumbent if relative else metric.incumbent_known
    return (
        finding.metric,
        _rate(mine, mine_of),
        _rate(theirs, theirs_of),
        "?" if finding.loss is None else loss_text(finding.loss, relative),
        excluded_words(finding),
        loss_text(finding.allowed, relative),
    )


def excluded_words(finding: Finding) -> str:
    """Which losses the evidence excludes, in words."""
    relative = finding.scale == "relative"
    words = [f"below {loss_text(finding.least, relative)}"] if finding.least is not None else []
    words += [f"above {loss_text(finding.most, relative)}"] if finding.most is not None else []
    return ", ".join(words) or "nothing yet"


def _rate(events: int, of: int) -> str:
    return f"{events / of:.4f} ({events} of {of})" if of else "none"
