"""What the counts of a window come to by the registered rule. Pure: the door, the gate and `verify` call this.

- **roll-back**: at once when the evidence that the specialist is worse reaches ``1/alpha`` and the loss as counted is
  beyond the allowed one. Alpha is the rule's error probability, divided among its metrics.
- **confirm**: only at the window's end, and only when for every metric the evidence excludes a loss beyond the allowed
  one. Every one of them has to, so each may use the whole error probability (an intersection-union test).
- **inconclusive**: everything else. No data excludes nothing. Nor is anything confirmed while reports, or decisions
  themselves, come from one arm more than its share explains, or the door measured less of the specialist's answers:
  somebody or something picks what is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from modelsmith.governance.sequential import (
    Arms,
    difference_estimate,
    difference_evidence,
    excluded,
    imbalance_evidence,
    ratio_estimate,
    ratio_evidence,
    shortfall_evidence,
)
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts, Metric, StageCounts
from modelsmith.schema.live_evidence import Finding, Judged
from modelsmith.schema.watch import Rule

_DIGITS: Final = 6
"""Figures are stated to these places: more would differ between mathematical libraries."""
_WIDEST: Final = 1e6
"""A ratio beyond which no bound is looked for."""
_NEARLY_ALL: Final = 1 - 1e-9
"""The same of a difference."""


class _Evidence(Protocol):
    def __call__(self, stages: Sequence[Arms], against: float, /, *, below: bool) -> float: ...


class Watched(NamedTuple):
    """One metric of a rule."""

    name: str
    relative: bool
    higher: bool
    """Whether more of it is good."""
    allowed: float
    reported: bool
    """Whether the application reports it; else the door measures it."""


class Judgement(NamedTuple):
    """A window's outcome now, with reasons and findings."""

    outcome: Judged
    reasons: tuple[str, ...]
    """Why, in sentences."""
    findings: tuple[Finding, ...]
    """Findings, one for each metric, in the rule's order."""


def watched(terms: Rollback) -> tuple[Watched, ...]:
    """The metrics of the terms' rule; of terms without one, none."""
    rule = terms.rule
    if rule is None:
        return ()
    own = Watched(terms.metric, True, rule.better == "higher", terms.max_drop, True)
    outcome_metrics = (
        Watched(name, True, outcome.better == "higher", outcome.max_loss, True)
        for name, outcome in rule.outcomes.items()
    )
    guards = (("errors", rule.errors), ("slow", rule.slow), ("format", rule.format))
    return (
        own,
        *outcome_metrics,
        *(Watched(name, False, False, guard.max_rise, False) for name, guard in guards if guard),
    )


def guards(terms: Rollback) -> tuple[Watched, ...]:
    """Those of the metrics that the door measures itself: all that can be said of answers that nobody gets."""
    return tuple(metric for metric in watched(terms) if not metric.reported)


def judge(
    terms: Rollback, counts: Counts | None, *, ended: bool, metrics: tuple[Watched, ...] | None = None
) -> Judgement:
    """Outcome of a window's counts: confirmed, to be rolled back, or not decided.

    Args:
        terms: Of the approved contract; it has a rule.
        counts: What was counted; None before the first decision.
        ended: Whether the window is over.
        metrics: By which; None: by all that the rule names.
    """
    rule, metrics = terms.rule, watched(terms) if metrics is None else metrics
    assert rule
    stages = counts.stages if counts else ()
    findings = tuple(_finding(metric, stages, rule.error_probability) for metric in metrics)
    reasons = tripped(terms, counts, metrics)
    if reasons:
        return Judgement("roll-back", reasons, findings)
    few = _few(rule, stages)
    doubts = [*few, *_imbalances(stages, metrics, rule), *([] if metrics else ["nothing is measured"])]
    enough = -math.log10(rule.error_probability)
    doubts += [
        f"{sentence(finding)}; a loss beyond {loss_text(finding.allowed, finding.scale == 'relative')} is not excluded"
        for finding in findings
        if finding.held < enough
    ]
    if not ended:
        doubts.insert(0, "the window is still open")
    if doubts:
        return Judgement("inconclusive", tuple(doubts), findings)
    return Judgement("confirm", tuple(f"{sentence(finding)}: within what is allowed" for finding in findings), findings)


def tripped(terms: Rollback, counts: Counts | None, metrics: tuple[Watched, ...] | None = None) -> tuple[str, ...]:
    """Why traffic has to go back now, in sentences; none while the rule has not tripped.

    It computes what `judge` needs for that and no bounds: it is asked after every event.
    """
    rule, metrics = terms.rule, watched(terms) if metrics is None else metrics
    if rule is None or counts is None or not metrics or _few(rule, counts.stages):
        return ()
    trip = trip_evidence(terms, metrics)
    reasons = []
    for metric in metrics:
        loss = _loss(metric, arms(counts.stages, metric))
        if loss is None or loss <= metric.allowed:
            continue
        worse = evidence_of(metric, counts)
        if worse >= trip:
            moved = _moved(metric.name, loss, metric.allowed, metric.relative)
            reasons.append(f"{moved}; evidence that it is worse: {_power(worse)}, and {_power(trip)} suffices")
    return tuple(reasons)


def lopsided(terms: Rollback, counts: Counts | None) -> tuple[str, ...]:
    """Sentences about sides that reported more than their share explains.

    A loss may then be one of reports alone: an application that no longer reports of the specialist looks like one that
    never wins with it. Traffic goes back all the same, and whoever clears the hold has to know.
    """
    if terms.rule is None or counts is None:
        return ()
    return tuple(_imbalances(counts.stages, watched(terms), terms.rule))


def trip_evidence(terms: Rollback, metrics: tuple[Watched, ...] | None = None) -> float:
    """Evidence that any one metric of the rule needs, as log10 of the e-value: alpha is divided among them."""
    assert terms.rule
    return -math.log10(terms.rule.error_probability / max(1, len(watched(terms) if metrics is None else metrics)))


def evidence_of(metric: Watched, counts: Counts | None) -> float:
    """Evidence that the specialist is worse by a metric, as log10 of the e-value."""
    counted = arms(counts.stages if counts else (), metric)
    return _figure(_evidence(metric)(counted, _level(metric), below=metric.higher) / math.log(10))


def sentence(finding: Finding) -> str:
    """One metric in words."""
    if finding.loss is None:
        return f"{finding.metric}: nothing to compare yet"
    return _moved(finding.metric, finding.loss, finding.allowed, finding.scale == "relative")


def _moved(name: str, loss: float, allowed: float, relative: bool) -> str:
    side = "worse" if loss > 0 else "better"
    limit = loss_text(allowed, relative)
    return f"{name} is {loss_text(abs(loss), relative)} {side} than the incumbent, {limit} worse is allowed"


def loss_text(value: float, relative: bool) -> str:
    """A loss as people write it: ``4.0%`` of the incumbent's rate, or ``2.0 points``."""
    return f"{value:.1%}" if relative else f"{100 * value:.1f} points"


def arms(stages: Sequence[StageCounts], metric: Watched) -> tuple[Arms, ...]:
    """The counts of one metric, stage by stage.

    What an application reports counts per decision, reported or not: silence is not an outcome. What the door measures
    counts where it was measured.
    """
    arms_by_stage = []
    for stage in stages:
        tally = _metric(stage, metric.name)
        denominators = (stage.specialist, stage.incumbent)
        if not metric.reported:
            denominators = (tally.specialist_known, tally.incumbent_known)
        arms_by_stage.append(Arms(stage.share, tally.specialist, tally.incumbent, *denominators))
    return tuple(arms_by_stage)


def _metric(stage: StageCounts, name: str) -> Metric:
    none = Metric(metric=name, specialist=0, incumbent=0, specialist_known=0, incumbent_known=0)
    return next((metric for metric in stage.metrics if metric.metric == name), none)


def _finding(metric: Watched, stages: Sequence[StageCounts], alpha: float) -> Finding:
    counted, evidence, level = arms(stages, metric), _evidence(metric), _level(metric)
    worst = level - metric.allowed if metric.higher else level + metric.allowed

    def worse_than(value: float) -> float:
        return evidence(counted, value, below=metric.higher)

    def better_than(value: float) -> float:
        return evidence(counted, value, below=not metric.higher)

    def loss(value: float | None) -> float | None:
        return None if value is None else _lost(metric, value)

    floor, ceiling = (1 / _WIDEST, _WIDEST) if metric.relative else (-_NEARLY_ALL, _NEARLY_ALL)
    good, bad = (ceiling, floor) if metric.higher else (floor, ceiling)
    estimate = _estimate(metric, counted)
    middle = level if estimate is None else min(max(estimate, floor), ceiling)
    return Finding(
        metric=metric.name,
        scale="relative" if metric.relative else "points",
        allowed=metric.allowed,
        loss=loss(estimate),
        least=loss(excluded(worse_than, middle, good, alpha)),
        most=loss(excluded(better_than, middle, bad, alpha)),
        worse=_figure(worse_than(level) / math.log(10)),
        held=_figure(better_than(worst) / math.log(10)),
    )


def _level(metric: Watched) -> float:
    """The value of no difference: a ratio of 1, or a difference of 0."""
    return 1.0 if metric.relative else 0.0


def _evidence(metric: Watched) -> _Evidence:
    return ratio_evidence if metric.relative else difference_evidence


def _estimate(metric: Watched, counted: Sequence[Arms]) -> float | None:
    return ratio_estimate(counted) if metric.relative else difference_estimate(counted)


def _loss(metric: Watched, counted: Sequence[Arms]) -> float | None:
    estimate = _estimate(metric, counted)
    return None if estimate is None else _lost(metric, estimate)


def _lost(metric: Watched, value: float) -> float:
    level = _level(metric)
    return _figure(level - value if metric.higher else value - level)


def _figure(value: float) -> float:
    return round(value, _DIGITS) + 0.0


def _few(rule: Rule, stages: Sequence[StageCounts]) -> list[str]:
    sides = (("specialist", sum(s.specialist for s in stages)), ("incumbent", sum(s.incumbent for s in stages)))
    return [
        f"the {side} has {number} of the {rule.least_decisions} decisions that the rule asks for on each side"
        for side, number in sides
        if number < rule.least_decisions
    ]


def _imbalances(stages: Sequence[StageCounts], metrics: Sequence[Watched], rule: Rule) -> Iterator[str]:
    """What does not depend on the arm unless somebody or something picks: decisions, and whether reports come.

    Nor may the door have measured less of the specialist: callers leave where no answer comes, and that is not an
    error.
    """
    looked = [("decisions", imbalance_evidence, [(s.share, s.specialist, s.incumbent) for s in stages])]
    for metric in metrics:
        denominators = [
            (s.share, m.specialist_known, m.incumbent_known) for s in stages if (m := _metric(s, metric.name))
        ]
        if metric.reported:
            looked.append((f"reports of {metric.name}", imbalance_evidence, denominators))
        else:
            looked.append((f"answers measured for {metric.name}", shortfall_evidence, denominators))
    threshold = -math.log(rule.error_probability / len(looked))
    for label, evidence, events in looked:
        if evidence(events) >= threshold:
            mine, theirs = sum(event[1] for event in events), sum(event[2] for event in events)
            due = math.fsum(share * (a + b) for share, a, b in events)
            yield (
                f"{label} do not come from both sides as the share says: {mine} of the specialist and {theirs} of the "
                f"incumbent, where {due:.0f} of the specialist were due; find out which are missing"
            )


def _power(log10: float) -> str:
    return f"{10**log10:.0f} to 1" if log10 < 6 else f"10^{log10:.0f} to 1"
