"""Intervals and tests, in plain Python so that whoever verifies needs nothing else.

The scenario is the statistical cluster everywhere: its wordings and repeats are not independent observations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

NEGLIGIBLE = 1e-9
"""A standard error below this is rounding noise: the values are all equal."""


class Bounds(NamedTuple):
    """A point estimate and its confidence interval."""

    value: float
    low: float
    high: float


class Part(NamedTuple):
    """One term of a weighted sum of means."""

    weight: float
    pool: str
    """Parts of one pool share their clusters and are correlated; pools are independent."""
    means: Mapping[str, float]
    """Each cluster's mean, 0 to 1."""


def normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(p)


def two_sided(confidence: float) -> float:
    """Normal quantile of a two-sided interval: 1.96 for 0.95.

    >>> round(two_sided(0.95), 2)
    1.96
    """
    return normal_quantile(0.5 + confidence / 2)


@lru_cache(maxsize=256)
def student_t_quantile(p: float, freedom: float) -> float:
    """Quantile of Student's t distribution for ``p`` of at least one half; degrees of freedom may be fractional.

    >>> round(student_t_quantile(0.975, 9), 2)
    2.26
    """
    high = 1.0
    while _student_t_cdf(high, freedom) < p:
        high *= 2
    return _bisect(lambda t: _student_t_cdf(t, freedom) - p, 0.0, high)


def wilson(passed: float, n: float, confidence: float) -> Bounds:
    """Wilson score interval of a share (Wilson 1927): ``passed`` of ``n``, neither need be whole.

    >>> low, high = wilson(8, 10, 0.95)[-2:]
    >>> f"{low:.3f} {high:.3f}"
    '0.490 0.943'
    """
    z2 = two_sided(confidence) ** 2
    share = passed / n
    centre = share + z2 / (2 * n)
    spread = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    low = 0.0 if passed <= 0 else (centre - spread) / (1 + z2 / n)
    high = 1.0 if passed >= n else (centre + spread) / (1 + z2 / n)
    return Bounds(share, max(0.0, low), min(1.0, high))


def clustered_mean(values_by_cluster: Mapping[str, Sequence[float]], confidence: float) -> Bounds:
    """Mean over clusters of each cluster's mean, of values between 0 and 1.

    With ``G`` clusters the standard error is that of ordinary least squares on an intercept with cluster-robust
    covariance and the small-sample factor ``G / (G - 1)``, which for this estimator is ``s / sqrt(G)``, ``s`` being
    the standard deviation of the cluster means. The interval uses Student's t with ``G - 1`` degrees of freedom,
    because sets are small. If all means are equal it falls back to Wilson's interval (see `weighted_means`).

    >>> found = clustered_mean({"one": [1.0, 1.0], "two": [0.0, 1.0], "three": [1.0]}, 0.95)
    >>> " ".join(f"{figure:.2f}" for figure in found)
    '0.83 0.12 1.00'
    """
    means = {cluster: math.fsum(values) / len(values) for cluster, values in values_by_cluster.items()}
    return weighted_means([Part(1.0, "", means)], confidence)


def weighted_means(parts: Sequence[Part], confidence: float) -> Bounds:
    """Weighted mean of several parts' means, clustered.

    With weights ``w`` scaled to sum to one, part means ``M`` and part sizes ``n``, the estimate is
    ``C = sum_p w_p M_p``. A cluster ``g`` contributes ``u_g = sum_p w_p (m_gp - M_p) / n_p`` over the parts it occurs
    in, so parts that share clusters enter with their correlation. The variance is the sum over pools of
    ``G / (G - 1) * sum_g u_g^2``, ``G`` being the pool's number of clusters; the interval is ``C`` plus and minus
    Student's t times its root, with Welch and Satterthwaite's degrees of freedom, cut to 0 and 1.

    Where the values do not vary, or a pool has a single cluster, no variance can be seen; the interval is then Wilson's
    with Kish's effective number of clusters ``1 / sum_g (sum_p w_p / n_p)^2``. It is cautious: of all values in 0 to 1
    with a given mean, zeros and ones vary most.
    """
    scale = math.fsum(part.weight for part in parts)
    contributions: dict[tuple[str, str], list[float]] = {}
    influence: dict[tuple[str, str], list[float]] = {}
    terms = []
    for part in parts:
        n = len(part.means)
        mean = math.fsum(part.means.values()) / n
        terms.append(part.weight / scale * mean)
        for cluster, value in part.means.items():
            share = part.weight / scale / n
            contributions.setdefault((part.pool, cluster), []).append(share * (value - mean))
            influence.setdefault((part.pool, cluster), []).append(share)
    value = min(1.0, max(0.0, math.fsum(terms)))
    squares: dict[str, list[float]] = {}
    for (pool, _), shares in contributions.items():
        squares.setdefault(pool, []).append(math.fsum(shares) ** 2)
    sizes = {pool: len(inside) for pool, inside in squares.items()}
    if min(sizes.values()) > 1:
        variances = {pool: sizes[pool] / (sizes[pool] - 1) * math.fsum(inside) for pool, inside in squares.items()}
        total = math.fsum(variances.values())
        error = math.sqrt(total)
        if error > NEGLIGIBLE:
            freedom = total**2 / math.fsum(variances[pool] ** 2 / (sizes[pool] - 1) for pool in variances)
            reach = student_t_quantile(0.5 + confidence / 2, freedom) * error
            return Bounds(value, max(0.0, value - reach), min(1.0, value + reach))
    effective = 1 / math.fsum(math.fsum(shares) ** 2 for shares in influence.values())
    return wilson(value * effective, effective, confidence)


def paired_difference(candidate: Mapping[str, bool], incumbent: Mapping[str, bool], confidence: float) -> Bounds:
    """Difference of two pass rates on the same scenarios, candidate minus incumbent.

    The interval is Tango's score interval for paired proportions (Statistics in Medicine 17, 1998, 891-908): it holds
    its level with few discordant pairs, where an interval from the standard error is too narrow, and it does not
    collapse when there are none: ``n`` pairs without a change leave plus and minus ``z^2 / (n + z^2)``.

    >>> found = paired_difference({"a": True, "b": True, "c": True}, {"a": True, "b": False, "c": False}, 0.95)
    >>> " ".join(f"{figure:.2f}" for figure in found)
    '0.67 -0.27 0.94'
    """
    n = len(candidate)
    gained = sum(candidate[key] and not incumbent[key] for key in candidate)
    lost = sum(incumbent[key] and not candidate[key] for key in candidate)
    z2 = two_sided(confidence) ** 2
    value = (gained - lost) / n

    def outside(difference: float) -> float:
        """Squared score statistic minus its bound, scaled: negative inside the interval."""
        b = -gained - lost + (2 * n - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        nuisance = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        spread = max(0.0, n * (2 * nuisance + difference * (1 - difference)))
        return (gained - lost - n * difference) ** 2 - z2 * spread

    low = -1.0 if lost == n else _bisect(outside, value, -1.0)
    high = 1.0 if gained == n else _bisect(outside, value, 1.0)
    return Bounds(value, low, high)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p value of McNemar's test: ``b`` and ``c`` pairs changed, one way and the other.

    >>> mcnemar_exact(0, 5)
    0.0625
    """
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1))
    return min(1.0, 2 * tail / (1 << n))


def cautious_error(n: int) -> float:
    """Standard error of the difference of two pass rates over ``n`` paired scenarios, half of them discordant.

    ``sqrt(0.5 / n)``: as if two models with a pass rate of one half answered independently.
    """
    return math.sqrt(0.5 / n)


def minimum_detectable_effect(standard_error: float, confidence: float, power: float) -> float:
    """Smallest true difference that is found with this power, two-sided: ``(z_confidence + z_power) * error``.

    At most 1.

    >>> round(minimum_detectable_effect(0.05, 0.95, 0.8), 2)
    0.14
    """
    return min(1.0, (two_sided(confidence) + normal_quantile(power)) * standard_error)


def percentile(values: Sequence[float], share: float) -> float:
    """Percentile by linear interpolation between order statistics (type 7 of Hyndman and Fan 1996).

    >>> percentile([1, 2, 3, 4], 0.5)
    2.5
    """
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _bisect(f: Callable[[float], float], negative: float, positive: float) -> float:
    """Root of ``f`` between a point where it is not positive and one where it is not negative."""
    while True:
        middle = (negative + positive) / 2
        if middle in (negative, positive):
            return middle
        if f(middle) < 0:
            negative = middle
        else:
            positive = middle


def _student_t_cdf(t: float, freedom: float) -> float:
    """Cumulative distribution for ``t`` of zero and above."""
    return 1 - _beta_share(freedom / (freedom + t * t), freedom / 2, 0.5) / 2


def _beta_share(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function, by Lentz's continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    fraction, c, d = 1.0, 1.0, 0.0
    for m in range(10_000):
        half = m // 2
        if m == 0:
            term = 1.0
        elif m % 2:
            term = -(a + half) * (a + b + half) * x / ((a + m - 1) * (a + m))
        else:
            term = half * (b - half) * x / ((a + m - 1) * (a + m))
        d = 1 + term * d
        d = 1 / (d if d else 1e-300)
        c = 1 + term / (c if c else 1e-300)
        fraction *= c * d
        if m and abs(c * d - 1) < 1e-16:
            break
    return front / a * (fraction - 1)
