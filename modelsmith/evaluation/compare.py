"""Two runs side by side: which scenarios flipped, on which rubric points, and whether it is more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from modelsmith.evaluation.statistics import cautious_error, mcnemar_exact, minimum_detectable_effect, two_sided
from modelsmith.evaluation.tally import (
    Tally,
    composite,
    difference,
    paired,
    pass_rate,
    require_same_scenarios,
    tally,
)
from modelsmith.schema.comparison import Comparison, PointFlip, ScenarioFlip
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.figures import p_value, signed
from modelsmith.schema.run import Estimate, GateRule, VerdictRow

POWER = 0.8
"""Power for which the smallest detectable difference is told."""


def compare(a_rows: Sequence[VerdictRow], b_rows: Sequence[VerdictRow], rule: GateRule) -> Comparison:
    """The second run seen against the first.

    Raises:
        InvalidInput: ``no-rows``; ``question-differs``; ``nothing-to-compare`` when the runs share no core or held-out
            scenario.
        IntegrityFailure: ``rows-disagree`` or ``points-differ``.
    """
    a, b = tally(a_rows, rule), tally(b_rows, rule)
    require_same_scenarios(a, b)
    pairs = paired(b, a)
    if not pairs:
        raise InvalidInput(
            "nothing-to-compare",
            "The two runs share no core or held-out scenario.",
            "Run both evals with --type core, held_out or all.",
        )
    confidence = rule.decision.confidence
    both = [(a[key], b[key]) for key in a if key in b]
    change = difference(pairs, confidence)
    gained = sum(second.passed and not first.passed for second, first in pairs)
    lost = sum(first.passed and not second.passed for second, first in pairs)
    p = round(mcnemar_exact(gained, lost), 9)
    smallest = detectable(change, confidence)
    return Comparison(
        scenarios=len(pairs),
        composite=(composite(a, rule), composite(b, rule)),
        held_out=(pass_rate(a, "held_out", confidence), pass_rate(b, "held_out", confidence)),
        difference=change,
        gained=gained,
        lost=lost,
        mcnemar_p=p,
        detectable=smallest,
        flips=tuple(_flip(first, second) for first, second in both if first.passed != second.passed),
        point_flips=_point_flips(both, rule),
        outcome="better" if change.low > 0 else "worse" if change.high < 0 else "undecided",
        sentence=_sentence(change, gained, lost, p, smallest),
    )


def detectable(change: Estimate, confidence: float) -> float:
    """Smallest true change of the pass rate that these paired scenarios would show with power `POWER`.

    The standard error is read off the paired interval (half its width, divided by z); where no pair differs, it is the
    cautious one.
    """
    observed = (change.high - change.low) / 2 / two_sided(confidence)
    return round(minimum_detectable_effect(observed or cautious_error(change.n), confidence, POWER), 9)


def _flip(first: Tally, second: Tally) -> ScenarioFlip:
    changed = {point for point, _ in _changes(first, second)}
    return ScenarioFlip(
        section=second.section,
        id=second.id,
        scenario=second.scenario,
        capability=second.capability,
        critical=second.critical,
        direction="gained" if second.passed else "lost",
        points=tuple(sorted(changed)),
    )


def _changes(first: Tally, second: Tally) -> list[tuple[str, bool]]:
    """Each rubric point of each common completion that changed, and whether it passes now."""
    return [
        (point, passed)
        for key, points in second.points.items()
        if key in first.points
        for point, passed in points.items()
        if first.points[key][point] != passed
    ]


def _point_flips(both: Sequence[tuple[Tally, Tally]], rule: GateRule) -> tuple[PointFlip, ...]:
    counts = Counter(change for first, second in both for change in _changes(first, second))
    return tuple(
        PointFlip(point=weight.id, gained=counts[weight.id, True], lost=counts[weight.id, False])
        for weight in rule.points
    )


def _sentence(change: Estimate, gained: int, lost: int, p: float, smallest: float) -> str:
    numbers = f"{signed(change.value)} [{signed(change.low)}, {signed(change.high)}] over {change.n} paired scenarios"
    flips = f"{gained} gained, {lost} lost, exact McNemar {p_value(p)}"
    if change.low > 0:
        return f"The second run passes more scenarios: {numbers} ({flips})."
    if change.high < 0:
        return f"The second run passes fewer scenarios: {numbers} ({flips})."
    return (
        f"No difference is shown: {numbers} ({flips}); "
        f"this set would probably show a true difference of {smallest:.3f} or more."
    )
