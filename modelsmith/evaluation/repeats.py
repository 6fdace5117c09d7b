"""What repeats tell: how often at least one of k tries passes (pass@k), and how often all of them do (pass^k).

A try of a scenario is one repeat in all wordings of the section, and passes when each of them does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from modelsmith.evaluation.scoring import row_passed
from modelsmith.evaluation.statistics import Bounds, clustered_mean, wilson
from modelsmith.evaluation.tally import Tallies, Tally, estimate, section_tallies
from modelsmith.schema.base import Section
from modelsmith.schema.run import GateRule, RepeatRate, RepeatRates


def repeat_rates(tallies: Tallies, section: Section, rule: GateRule) -> RepeatRates | None:
    """The section's rates for 1, 2, 4 ... tries and for as many as were drawn; None with one try only.

    Where scenarios were tried unequally often, the least number counts as drawn.
    """
    inside = section_tallies(tallies, section)
    drawn = min((len({repeat for _, repeat in tally.points}) for tally in inside), default=0)
    if drawn < 2:
        return None
    tries = {tally.id: _tries(tally, rule) for tally in inside}
    rates = []
    for k in [*(1 << power for power in range((drawn - 1).bit_length())), drawn]:
        once, always = (_mean(tries, k, share, rule.decision.confidence) for share in (at_least_one, every))
        rates.append(RepeatRate(k=k, at_least_one=estimate(once, len(tries)), every=estimate(always, len(tries))))
    return RepeatRates(drawn=drawn, rates=tuple(rates))


def at_least_one(drawn: int, passed: int, k: int) -> float:
    """Share of the choices of k tries among those drawn that hold a passing one: pass@k.

    It is the unbiased estimate of the probability that one of k new tries passes (Chen et al. 2021, Evaluating Large
    Language Models Trained on Code, equation 1).

    >>> at_least_one(4, 1, 2)
    0.5
    """
    return 1 - math.comb(drawn - passed, k) / math.comb(drawn, k)


def every(drawn: int, passed: int, k: int) -> float:
    """Share of the choices of k tries among those drawn that all pass: pass^k.

    It is the unbiased estimate of the probability that k new tries all pass (Yao et al. 2024, tau-bench, section 3).

    >>> every(4, 2, 2) == 1 / 6
    True
    """
    return math.comb(passed, k) / math.comb(drawn, k)


def _tries(tally: Tally, rule: GateRule) -> tuple[int, int]:
    """How often the scenario was tried, and how often it passed."""
    passed: dict[int, bool] = {}
    for (_, repeat), points in tally.points.items():
        passed[repeat] = passed.get(repeat, True) and row_passed(points, rule.points)
    return len(passed), sum(passed.values())


def _mean(
    tries: Mapping[str, tuple[int, int]], k: int, share: Callable[[int, int, int], float], confidence: float
) -> Bounds:
    """Mean over scenarios, clustered by scenario; Wilson's interval where each scenario is a plain yes or no."""
    shares = {name: share(drawn, passed, k) for name, (drawn, passed) in tries.items()}
    if all(drawn == k for drawn, _ in tries.values()):
        return wilson(sum(shares.values()), len(shares), confidence)
    return clustered_mean({name: [value] for name, value in shares.items()}, confidence)
