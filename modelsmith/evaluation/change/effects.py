"""What a change of the eval set does to one model's verdicts. Pure: from verdict rows before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from modelsmith.evaluation.results import observation_key
from modelsmith.evaluation.tally import Tally, tally
from modelsmith.schema.comparison import PointFlip, ScenarioFlip
from modelsmith.schema.run import GateRule, VerdictRow


def flips(
    before: Sequence[VerdictRow], old: GateRule, after: Sequence[VerdictRow], new: GateRule
) -> tuple[ScenarioFlip, ...]:
    """Scenarios, asked before and after, whose verdict turned."""
    if not before or not after:
        return ()
    then, now = tally(before, old), tally(after, new)
    turned = [key for key in now if key in then and then[key].passed != now[key].passed]
    return tuple(
        ScenarioFlip(
            section=now[key].section,
            id=now[key].id,
            scenario=now[key].scenario,
            capability=now[key].capability,
            critical=now[key].critical,
            direction="gained" if now[key].passed else "lost",
            points=_points(then[key], now[key]),
        )
        for key in turned
    )


def point_flips(before: Iterable[VerdictRow], after: Iterable[VerdictRow]) -> tuple[PointFlip, ...]:
    """How often each rubric point that both versions know is decided otherwise, counted in completions."""
    then = {observation_key(row): row.points for row in before}
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for row in after:
        old = then.get(observation_key(row), {})
        for point, passed in row.points.items():
            if point in old and old[point] != passed:
                (gained if passed else lost)[point] += 1
    return tuple(PointFlip(point=point, gained=gained[point], lost=lost[point]) for point in sorted({*gained, *lost}))


def _points(then: Tally, now: Tally) -> tuple[str, ...]:
    """Points that at least one completion decides otherwise, or that only one of the versions knows."""
    turned = set()
    for key in {*then.points, *now.points}:
        before, after = then.points.get(key, {}), now.points.get(key, {})
        turned |= {point for point in {*before, *after} if before.get(point) != after.get(point)}
    return tuple(sorted(turned))
