"""Whether a validated specialist has left what it was validated for. Pure.

After production-validated nobody else gets traffic, so there is nobody to compare it with. What it is held against is
its envelope: the rate that its live evidence showed, less the loss that the contract allows.

Against "the rate is at least ``p0``" the likelihood ratio of a lower rate ``p1``, with ``a`` events in ``n`` units, is
``(p1 / p0)^a ((1 - p1) / (1 - p0))^(n - a)``. It begins at 1, and at every true rate of ``p0`` or more its mean does
not grow. So does the mean over a fixed grid of alternatives, which is the e-value here. By Ville's inequality it ever
reaches ``1/alpha`` with probability at most ``alpha``, however often it is looked at. For a rate that must not rise,
the same is done upwards.

A specialist may be sound for months and drift then; old evidence for it would hide that. So each week is judged by
itself, and the rule's error probability is divided among its metrics and the thirteen weeks of a quarter: a quarter in
which every rate stays within its envelope raises no alarm, with at least that confidence.

Rates move with the hour, and nobody else has traffic in which that would show. So it is looked at where whole days
end. Of units with rates of their own, whose mean is ``p0`` or more, the mean of the ratio is a product of one factor
each, linear in that unit's rate; a product is at most the power of the factors' mean (arithmetic and geometric means),
and that is at most 1. Looked at within a day, the same specialist would drift each morning.

Sources: Wald, Sequential Analysis (1947); Ramdas, Grunwald, Vovk and Shafer, Game-theoretic statistics and safe
anytime-valid inference (Statistical Science, 2023); Wilson (1927) for the baseline's bound. A baseline is an estimate,
and only who looked good was validated: so the envelope begins at the bound of its one-sided interval, and that takes
half of the error probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from statistics import NormalDist
from typing import Final, NamedTuple

from modelsmith.governance.sequential import RATIOS
from modelsmith.governance.window import Watched, watched
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts

DAY: Final = timedelta(days=1)
WEEK: Final = 7 * DAY
WEEKS: Final = 13
"""Weeks of a quarter."""
_LEAST, _MOST = 1e-6, 1 - 1e-6


class Rate(NamedTuple):
    """A rate: units with an event, out of the units for which it is known."""

    events: int
    known: int


class Drifted(NamedTuple):
    """A metric outside of its envelope."""

    metric: str
    baseline: float
    """Its rate as validated."""
    observed: float


def baseline_of(counts: Counts) -> dict[str, Rate]:
    """The specialist's rates in the counts of its window, by metric."""
    rates: dict[str, Rate] = {}
    for stage in counts.stages:
        for metric in stage.metrics:
            before = rates.get(metric.metric, Rate(0, 0))
            rates[metric.metric] = Rate(before.events + metric.specialist, before.known + metric.specialist_known)
    return rates


def drifted(terms: Rollback, baseline: Mapping[str, Rate], week: Mapping[str, Rate]) -> tuple[Drifted, ...]:
    """Metrics of the rule that one week's counts show to be outside of their envelope.

    Args:
        terms: Of the contract; without a rule nothing is watched.
        baseline: As validated, by metric; one without a unit is not watched.
        week: Counted so far in the week, each sticky key once.
    """
    metrics, rule = watched(terms), terms.rule
    if rule is None:
        return ()
    half = rule.error_probability / 2
    threshold = -math.log(half / (len(metrics) * WEEKS))
    drifts = []
    for metric in metrics:
        before, now = baseline.get(metric.name, Rate(0, 0)), week.get(metric.name, Rate(0, 0))
        if not before.known or now.known < rule.least_decisions:
            continue
        if evidence(now, envelope(metric, before, half / len(metrics)), below=metric.higher) >= threshold:
            drifts.append(Drifted(metric.name, before.events / before.known, now.events / now.known))
    return tuple(drifts)


def envelope(metric: Watched, baseline: Rate, alpha: float) -> float:
    """The rate beyond which a metric has drifted.

    ``alpha`` is the probability that the validated rate lay beyond the bound at which the envelope begins.
    """
    rate = _bound(baseline, alpha, upper=not metric.higher)
    if not metric.relative:
        moved = rate + metric.allowed
    else:
        moved = rate * (1 - metric.allowed if metric.higher else 1 + metric.allowed)
    return min(max(moved, _LEAST), _MOST)


def _bound(rate: Rate, alpha: float, *, upper: bool) -> float:
    """Wilson's one-sided bound of a rate."""
    z = NormalDist().inv_cdf(1 - alpha) * (1 if upper else -1)
    share, n = rate.events / rate.known, rate.known
    spread = math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return min(max((share + z * z / (2 * n) + z * spread) / (1 + z * z / n), 0.0), 1.0)


def evidence(now: Rate, bound: float, *, below: bool) -> float:
    """Natural logarithm of the e-value against "the rate is at least ``bound``" (``below``), or "at most"."""
    others = [bound * part if below else min(bound / part, (1 + bound) / 2) for part in RATIOS]
    quiet = now.known - now.events
    logs = [now.events * math.log(rate / bound) + quiet * math.log((1 - rate) / (1 - bound)) for rate in others]
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))
