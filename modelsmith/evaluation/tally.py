"""Verdict rows gathered by scenario: the step that headline and comparison share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from modelsmith.evaluation.scoring import row_passed, row_score
from modelsmith.evaluation.statistics import Bounds, Part, clustered_mean, paired_difference, weighted_means, wilson
from modelsmith.schema.base import Section
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.run import Estimate, GateRule, VerdictRow

SECTIONS: tuple[Section, ...] = ("core", "robustness", "micro", "held_out")
"""In the order in which they are asked and shown."""

NOT_MEASURED = Estimate(value=0.0, low=0.0, high=1.0, n=0)
"""Stands for a number whose section was not asked; ``n`` of zero tells it from a measured one."""

_DECIMALS = 9


@dataclass(frozen=True)
class Tally:
    """One scenario in one section."""

    section: Section
    id: str
    scenario: str
    """Digest of the scenario."""
    capability: str
    critical: bool
    scores: tuple[float, ...]
    """Scores of its completions, sorted by wording and repeat."""
    passed: bool
    """Whether every completion passed."""
    points: Mapping[tuple[int, int], Mapping[str, bool]]
    """Verdicts by (wording, repeat)."""


Tallies = Mapping[tuple[Section, str], Tally]
"""Tallies by section and scenario id, in order."""


def tally(rows: Iterable[VerdictRow], rule: GateRule) -> Tallies:
    """Gather rows by section and scenario; the order of the rows does not matter.

    Raises:
        InvalidInput: ``no-rows``.
        IntegrityFailure: ``rows-disagree`` when a completion is counted twice or rows contradict each other about a
            scenario; ``points-differ``.
    """
    by_scenario: dict[tuple[Section, str], dict[tuple[int, int], VerdictRow]] = {}
    facts: dict[str, tuple[str, str, bool]] = {}
    for row in rows:
        inside = by_scenario.setdefault((row.section, row.id), {})
        if (row.wording, row.repeat) in inside:
            _disagree(row, "is counted twice in one wording and repeat")
        inside[row.wording, row.repeat] = row
        fact = row.scenario, row.capability, row.critical
        if facts.setdefault(row.id, fact) != fact:
            _disagree(row, "has rows that contradict each other about its content")
    if not by_scenario:
        raise InvalidInput("no-rows", "There is not one verdict to judge by.", "Run the eval first.")
    score = _remembering(rule)
    return {key: _gather(by_scenario[key], score) for key in sorted(by_scenario, key=_order)}


def section_tallies(tallies: Tallies, section: Section) -> list[Tally]:
    """The scenarios of one section."""
    return [entry for entry in tallies.values() if entry.section == section]


def estimate(bounds: Bounds, n: int) -> Estimate:
    """The figures as they are recorded: nine decimals, so that every machine recomputes the same ones."""
    value, low, high = (round(number, _DECIMALS) + 0.0 for number in bounds)
    return Estimate(value=value, low=low, high=high, n=n)


def section_score(tallies: Tallies, section: Section, confidence: float) -> Estimate:
    """Mean over scenarios of their mean score, clustered by scenario."""
    scores = {entry.id: entry.scores for entry in section_tallies(tallies, section)}
    return estimate(clustered_mean(scores, confidence), len(scores))


def pass_rate(tallies: Tallies, section: Section, confidence: float) -> Estimate:
    """Share of scenarios that pass in all their completions; `NOT_MEASURED` without any."""
    inside = section_tallies(tallies, section)
    if not inside:
        return NOT_MEASURED
    return estimate(wilson(sum(entry.passed for entry in inside), len(inside), confidence), len(inside))


def composite(tallies: Tallies, rule: GateRule) -> Estimate:
    """Weighted mean of the section scores over the weighted sections at hand; `NOT_MEASURED` without any.

    Core and robustness ask the same scenarios and are one pool of clusters; micro is a pool of its own. The formula is
    that of `statistics.weighted_means`.
    """
    parts = []
    for section, weight in composite_weights(rule).items():
        means = {entry.id: math.fsum(entry.scores) / len(entry.scores) for entry in section_tallies(tallies, section)}
        if means:
            parts.append(Part(weight, "micro" if section == "micro" else "core", means))
    if not parts:
        return NOT_MEASURED
    clusters = {(part.pool, cluster) for part in parts for cluster in part.means}
    return estimate(weighted_means(parts, rule.decision.confidence), len(clusters))


def composite_weights(rule: GateRule) -> dict[Section, float]:
    """Sections with a weight other than zero."""
    weights: dict[Section, float] = {
        "core": rule.composite.core,
        "robustness": rule.composite.robustness,
        "micro": rule.composite.micro,
    }
    return {section: weight for section, weight in weights.items() if weight > 0}


def paired(first: Tallies, other: Tallies) -> list[tuple[Tally, Tally]]:
    """Core and held-out scenarios that both runs answered: one pair for each scenario."""
    return [(first[key], other[key]) for key in first if key in other and key[0] in ("core", "held_out")]


def difference(pairs: Sequence[tuple[Tally, Tally]], confidence: float) -> Estimate:
    """Paired difference of pass rates, first minus second."""
    first = {f"{entry.section}/{entry.id}": entry.passed for entry, _ in pairs}
    second = {f"{other.section}/{other.id}": other.passed for _, other in pairs}
    return estimate(paired_difference(first, second, confidence), len(pairs))


def require_same_scenarios(first: Tallies, other: Tallies) -> None:
    """Refuse to compare runs whose scenarios carry the same name and differ in content.

    Raises:
        InvalidInput: ``question-differs``.
    """
    differing = sorted({key[1] for key in first if key in other and first[key].scenario != other[key].scenario})
    if differing:
        raise InvalidInput(
            "question-differs",
            f"The runs answered different questions: {len(differing)} scenarios changed between them.",
            "Run both evals on the same version of the eval set.",
            scenarios=differing[:20],
        )


Score = Callable[[Mapping[str, bool]], tuple[float, bool]]


def _remembering(rule: GateRule) -> Score:
    """`row_score` and `row_passed`, which reckon the same verdicts once: few combinations occur."""
    scores: dict[tuple[tuple[str, bool], ...], tuple[float, bool]] = {}

    def score(points: Mapping[str, bool]) -> tuple[float, bool]:
        key = tuple(points.items())
        score = scores.get(key)
        if score is None:
            score = scores[key] = row_score(points, rule.points), row_passed(points, rule.points)
        return score

    return score


def _gather(rows: Mapping[tuple[int, int], VerdictRow], score: Score) -> Tally:
    points = {key: rows[key].points for key in (sorted(rows) if len(rows) > 1 else rows)}
    first = rows[next(iter(points))]
    scores = [score(verdicts) for verdicts in points.values()]
    return Tally(
        section=first.section,
        id=first.id,
        scenario=first.scenario,
        capability=first.capability,
        critical=first.critical,
        scores=tuple(value for value, _ in scores),
        passed=all(passed for _, passed in scores),
        points=points,
    )


def _order(key: tuple[Section, str]) -> tuple[int, str]:
    return SECTIONS.index(key[0]), key[1]


def _disagree(row: VerdictRow, problem: str) -> NoReturn:
    raise IntegrityFailure(
        "rows-disagree",
        f"Scenario '{row.id}' {problem}.",
        "Run the eval again under a new tag.",
        section=row.section,
        scenario=row.id,
    )
