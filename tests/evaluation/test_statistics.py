from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from modelsmith.evaluation import statistics as ours

CLOSE = {"rel": 1e-9, "abs": 1e-9}
confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])
scores = st.sampled_from([0.0, 1 / 6, 1 / 3, 0.5, 4 / 6, 5 / 6, 1.0])


@given(st.integers(1, 500), st.data(), confidences)
def test_wilson_agrees_with_statsmodels(n, data, confidence):
    passed = data.draw(st.integers(0, n))
    bounds = ours.wilson(passed, n, confidence)
    assert bounds[1:] == pytest.approx(proportion_confint(passed, n, 1 - confidence, "wilson"), **CLOSE)
    assert 0 <= bounds.low <= bounds.value <= bounds.high <= 1


def test_twenty_of_twenty_is_not_certain():
    assert ours.wilson(20, 20, 0.95).low == pytest.approx(0.839, abs=5e-4)


@given(st.floats(0.5001, 0.9999), st.one_of(st.integers(1, 3000), st.floats(1, 300)))
def test_quantiles_agree_with_scipy(p, freedom):
    assert ours.normal_quantile(p) == pytest.approx(stats.norm.ppf(p), **CLOSE)
    assert ours.student_t_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), **CLOSE)


@settings(max_examples=60)
@given(st.lists(st.lists(scores, min_size=1, max_size=4), min_size=2, max_size=30), confidences)
def test_clustered_mean_is_weighted_least_squares_clustered(clusters, confidence):
    means = [sum(values) / len(values) for values in clusters]
    assume(np.std(means) > 1e-6)
    outcome = [value for values in clusters for value in values]
    groups = [index for index, values in enumerate(clusters) for _ in values]
    weights = [1 / len(values) for values in clusters for _ in values]
    fit = sm.WLS(outcome, np.ones(len(outcome)), weights=weights).fit()
    # statsmodels' small-sample correction is G/(G-1) * (N-1)/(N-K) with K = 1: exactly G/(G-1).
    robust = fit.get_robustcov_results("cluster", groups=np.array(groups), use_correction=True, use_t=True)
    low, high = robust.conf_int(1 - confidence)[0]
    bounds = ours.clustered_mean({str(index): values for index, values in enumerate(clusters)}, confidence)
    expected = (robust.params[0], max(0.0, low), min(1.0, high))
    assert tuple(bounds) == pytest.approx(expected, **CLOSE)


@settings(max_examples=60)
@given(st.integers(2, 30), st.integers(1, 4), st.randoms(use_true_random=False), confidences)
def test_with_equal_clusters_it_is_ordinary_least_squares(clusters, size, random, confidence):
    values = {str(c): [random.random() for _ in range(size)] for c in range(clusters)}
    assume(np.std([sum(inside) for inside in values.values()]) > 1e-6)
    outcome = [value for inside in values.values() for value in inside]
    groups = np.repeat(np.arange(clusters), size)
    fit = sm.OLS(outcome, np.ones(len(outcome))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    low, high = fit.conf_int(1 - confidence)[0]
    bounds = ours.clustered_mean(values, confidence)
    assert tuple(bounds) == pytest.approx((fit.params[0], max(0.0, low), min(1.0, high)), **CLOSE)


def _inspects_error(values: dict[str, list[float]]) -> float:
    scorer = pytest.importorskip(
        "inspect_ai.scorer", reason="inspect_ai is a second reference, in the extra 'inspect'; statsmodels is the first"
    )
    return scorer.stderr(cluster="scenario")(
        [
            scorer.SampleScore(score=scorer.Score(value=value), sample_metadata={"scenario": name})
            for name, inside in values.items()
            for value in inside
        ]
    )


@settings(max_examples=40)
@given(st.integers(2, 30), st.integers(1, 4), st.randoms(use_true_random=False), confidences)
def test_with_equal_clusters_the_error_is_inspects_to_the_factor_one(clusters, size, random, confidence):
    """Ours is s / sqrt(G) of the cluster means; theirs sums raw samples within clusters, times G / (G - 1).

    With ``size`` values in each of G clusters both are ``sqrt(sum of squared deviations of the means / (G (G - 1)))``.
    """
    values = {str(c): [random.random() for _ in range(size)] for c in range(clusters)}
    means = [sum(inside) / size for inside in values.values()]
    assume(np.std(means) > 1e-6)
    error = _inspects_error(values)
    reach = stats.t.ppf(0.5 + confidence / 2, clusters - 1) * error
    mean = float(np.mean(means))
    expected = (mean, max(0.0, mean - reach), min(1.0, mean + reach))
    assert tuple(ours.clustered_mean(values, confidence)) == pytest.approx(expected, **CLOSE)


def test_with_unequal_clusters_inspect_weighs_samples_and_we_scenarios():
    """A scenario asked five times counts once with us and five times with them: other means, so other errors."""
    values = {str(n): [0.3 + 0.1 * (n % 4)] * (1 if n % 4 else 5) for n in range(40)}
    bounds = ours.clustered_mean(values, 0.95)
    assert bounds.value == pytest.approx(0.45)
    outcome = [value for inside in values.values() for value in inside]
    groups = np.array([int(name) for name, inside in values.items() for _ in inside])
    plain = sm.OLS(outcome, np.ones(len(outcome))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert plain.params[0] == pytest.approx(0.375)
    assert _inspects_error(values) == pytest.approx(plain.bse[0], **CLOSE)
    reach = stats.t.ppf(0.975, 39) * plain.bse[0]
    assert abs((bounds.high - bounds.low) / 2 - reach) > 1e-4


@given(scores, st.integers(1, 60), st.integers(1, 4))
def test_equal_values_leave_an_honest_interval(value, clusters, size):
    bounds = ours.clustered_mean({str(c): [value] * size for c in range(clusters)}, 0.95)
    assert bounds == pytest.approx(ours.wilson(value * clusters, clusters, 0.95))
    assert bounds.high - bounds.low > 0.01


@settings(max_examples=60)
@given(st.integers(2, 40), st.integers(2, 20), st.randoms(use_true_random=False), confidences)
def test_weighted_means_add_correlated_parts_as_one_pools_as_two(n, m, random, confidence):
    core = {str(i): random.random() for i in range(n)}
    robust = {str(i): min(1.0, core[str(i)] * random.random() * 1.5) for i in range(n)}
    micro = {str(i): random.random() for i in range(m)}
    bounds = ours.weighted_means(
        [ours.Part(0.5, "core", core), ours.Part(0.3, "core", robust), ours.Part(0.2, "micro", micro)], confidence
    )
    combined = np.array([0.5 * core[key] + 0.3 * robust[key] for key in core])
    small = 0.2 * np.array(list(micro.values()))
    terms = np.array([combined.var(ddof=1) / n, small.var(ddof=1) / m])
    assume(terms.sum() > 1e-12)
    freedom = terms.sum() ** 2 / (terms**2 / np.array([n - 1, m - 1])).sum()
    value = combined.mean() + small.mean()
    reach = stats.t.ppf(0.5 + confidence / 2, freedom) * math.sqrt(terms.sum())
    expected = (value, max(0.0, value - reach), min(1.0, value + reach))
    assert tuple(bounds) == pytest.approx(expected, **CLOSE)


def test_a_pool_with_one_cluster_falls_back_to_a_wide_interval():
    bounds = ours.weighted_means(
        [ours.Part(0.5, "core", {"a": 0.2, "b": 0.9}), ours.Part(0.5, "micro", {"m": 1.0})], 0.95
    )
    assert bounds.high - bounds.low > 0.5


def _tango_by_numbers(gained: int, lost: int, n: int, z: float, difference: float) -> float:
    """Score statistic with the nuisance parameter found by maximising the multinomial likelihood numerically."""

    def unlikely(p_lost: float) -> float:
        p_gained = p_lost + difference
        rest = 1 - p_lost - p_gained
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = [
                k * math.log(p) if k else 0.0
                for k, p in ((gained, p_gained), (lost, p_lost), (n - gained - lost, rest))
            ]
        return -sum(terms)

    low, high = max(0.0, -difference), (1 - difference) / 2
    minimum = optimize.minimize_scalar(
        unlikely, bounds=(low + 1e-14, high - 1e-14), method="bounded", options={"xatol": 1e-13}
    )
    variance = n * (2 * minimum.x + difference * (1 - difference))
    return (gained - lost - n * difference) / math.sqrt(variance) - z


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 150), st.data(), confidences)
def test_paired_difference_is_tangos_score_interval(n, data, confidence):
    gained = data.draw(st.integers(1, n - 2))
    lost = data.draw(st.integers(1, n - gained - 1))
    candidate = {str(i): i < gained for i in range(n)}
    incumbent = {str(i): gained <= i < gained + lost for i in range(n)}
    bounds = ours.paired_difference(candidate, incumbent, confidence)
    z = stats.norm.ppf(0.5 + confidence / 2)
    assert bounds.value == (gained - lost) / n
    assert _tango_by_numbers(gained, lost, n, z, bounds.low) == pytest.approx(0, abs=1e-5)
    assert _tango_by_numbers(gained, lost, n, -z, bounds.high) == pytest.approx(0, abs=1e-5)


@given(st.integers(1, 300), confidences)
def test_no_change_at_all_leaves_the_known_closed_form(n, confidence):
    same = {str(i): i % 2 == 0 for i in range(n)}
    z2 = stats.norm.ppf(0.5 + confidence / 2) ** 2
    assert tuple(ours.paired_difference(same, same, confidence)) == pytest.approx(
        (0, -z2 / (n + z2), z2 / (n + z2)), **CLOSE
    )


@given(st.integers(1, 60), st.data())
def test_exchanging_the_models_mirrors_the_difference(n, data):
    first = {str(i): data.draw(st.booleans()) for i in range(n)}
    second = {str(i): data.draw(st.booleans()) for i in range(n)}
    forward, other = ours.paired_difference(first, second, 0.95), ours.paired_difference(second, first, 0.95)
    assert tuple(forward) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-12)
    assert -1 <= forward.low <= forward.value <= forward.high <= 1


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_agrees_with_statsmodels(b, c):
    assume(b + c > 0)
    expected = mcnemar([[3, b], [c, 4]], exact=True).pvalue
    assert ours.mcnemar_exact(b, c) == pytest.approx(expected, **CLOSE)


def test_mcnemar_without_a_change_shows_nothing():
    assert ours.mcnemar_exact(0, 0) == 1


@given(st.integers(20, 1000), confidences, st.sampled_from([0.7, 0.8, 0.9]))
def test_the_detectable_effect_agrees_with_statsmodels(n, confidence, power):
    effect = ours.minimum_detectable_effect(ours.cautious_error(n), confidence, power)
    assume(effect < 1)
    theirs = NormalIndPower().power(effect / 0.5, n, (1 - confidence) / 2, ratio=1, alternative="larger")
    assert theirs == pytest.approx(power, **CLOSE)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.floats(0, 1))
def test_percentiles_agree_with_numpy(values, share):
    assert ours.percentile(values, share) == pytest.approx(np.percentile(values, share * 100), **CLOSE)
