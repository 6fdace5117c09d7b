"""pass@k and pass^k of a section, against counting every choice of k tries by hand."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.repeats import at_least_one, every
from modelsmith.evaluation.statistics import clustered_mean
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.evalset import CompositeWeights, DecisionRule, Thresholds
from modelsmith.schema.run import GateRule, Headline, PointWeight, VerdictRow

RULE = GateRule(
    points=(PointWeight(id="cause", weight=3, required=True), PointWeight(id="style", weight=1, required=False)),
    composite=CompositeWeights(core=1, robustness=0, micro=0),
    thresholds=Thresholds(composite=0.5, held_out=0.5),
    decision=DecisionRule(min_scenarios=1),
)


def rows(tries, section="core", wordings=(0,)) -> list[VerdictRow]:
    """``tries``: scenario, then its tries, each with one verdict for each wording."""
    return [
        VerdictRow(
            section=section, scenario=digest(name), id=name, capability="c", critical=False, wording=wording,
            repeat=repeat, points={"cause": passed, "style": False},
        )
        for name, repeats in tries.items()
        for repeat, verdicts in enumerate(repeats)
        for wording, passed in zip(wordings, verdicts, strict=True)
    ]  # fmt: skip


def rates(tries, wordings=(0,)):
    (section,) = headline(rows(tries, wordings=wordings), None, RULE).sections
    return section.repeats


drawn_sets = st.integers(1, 3).flatmap(
    lambda wordings: st.integers(2, 6).flatmap(
        lambda drawn: st.lists(
            st.lists(st.lists(st.booleans(), min_size=wordings, max_size=wordings), min_size=drawn, max_size=drawn),
            min_size=1,
            max_size=6,
        ).map(lambda scenarios: ({f"s-{i}": scenario for i, scenario in enumerate(scenarios)}, tuple(range(wordings))))
    )
)


@given(drawn_sets)
def test_every_rate_is_the_share_among_all_choices_of_k_tries(drawn_set):
    tries, wordings = drawn_set
    drawn = len(tries["s-0"])
    repeat_rates = rates(tries, wordings)
    assert repeat_rates.drawn == drawn
    assert [rate.k for rate in repeat_rates.rates] == sorted({1, *(k for k in (2, 4) if k < drawn), drawn})
    for rate in repeat_rates.rates:
        some, all_ = [], []
        for repeats in tries.values():
            choices = list(itertools.combinations([all(verdicts) for verdicts in repeats], rate.k))
            some.append(Fraction(sum(map(any, choices)), len(choices)))
            all_.append(Fraction(sum(map(all, choices)), len(choices)))
        assert rate.at_least_one.value == pytest.approx(float(sum(some) / len(some)), abs=1e-9)
        assert rate.every.value == pytest.approx(float(sum(all_) / len(all_)), abs=1e-9)
        assert rate.every.n == rate.at_least_one.n == len(tries)


@given(drawn_sets)
def test_all_of_k_is_at_most_a_try_s_pass_rate_and_one_of_k_at_least(drawn_set):
    repeat_rates = rates(*drawn_set).rates
    first = repeat_rates[0]
    assert first.k == 1
    assert first.every == first.at_least_one
    shares = [sum(map(all, repeats)) / len(repeats) for repeats in drawn_set[0].values()]
    assert first.every.value == pytest.approx(sum(shares) / len(shares), abs=1e-9)
    assert [rate.every.value for rate in repeat_rates] == sorted(
        (rate.every.value for rate in repeat_rates), reverse=True
    )
    assert [rate.at_least_one.value for rate in repeat_rates] == sorted(
        rate.at_least_one.value for rate in repeat_rates
    )
    for rate in repeat_rates:
        for share in (rate.every, rate.at_least_one):
            assert 0 <= share.low <= share.value <= share.high <= 1


@given(drawn_sets)
def test_all_tries_together_are_the_sections_pass_rate(drawn_set):
    (section,) = headline(rows(drawn_set[0], wordings=drawn_set[1]), None, RULE).sections
    assert section.repeats.rates[-1].every == section.pass_rate


@given(st.integers(1, 64), st.data())
def test_the_estimates_agree_with_the_product_form_of_the_paper(drawn, data):
    passed, k = data.draw(st.integers(0, drawn)), data.draw(st.integers(1, drawn))
    none = 1.0 if drawn - passed < k else math.prod(1 - k / i for i in range(drawn - passed + 1, drawn + 1))
    expected = 1 - none if drawn - passed >= k else 1.0
    assert at_least_one(drawn, passed, k) == pytest.approx(expected, abs=1e-9)
    assert every(drawn, passed, k) == pytest.approx(1 - at_least_one(drawn, drawn - passed, k), abs=1e-9)


@given(st.integers(2, 6), st.integers(0, 6), st.integers(1, 6))
def test_the_estimates_are_unbiased(drawn, tenths, k):
    """Averaged over every outcome of the draws, they are the probability itself."""
    k, p = min(k, drawn), tenths / 6
    weight = [math.comb(drawn, c) * p**c * (1 - p) ** (drawn - c) for c in range(drawn + 1)]
    assert sum(w * every(drawn, c, k) for c, w in enumerate(weight)) == pytest.approx(p**k, abs=1e-9)
    assert sum(w * at_least_one(drawn, c, k) for c, w in enumerate(weight)) == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


def test_fewer_tries_than_drawn_have_an_interval_over_scenarios():
    tries = {f"s-{i}": [[i % 4 > n] for n in range(4)] for i in range(12)}
    two = rates(tries).rates[1]
    values = {name: [every(4, sum(map(all, repeats)), 2)] for name, repeats in tries.items()}
    bounds = clustered_mean(values, 0.95)
    assert (two.k, two.every.value, two.every.low, two.every.high) == pytest.approx((2, *bounds), abs=1e-9)


def test_an_answer_drawn_once_says_and_changes_nothing_about_repeats():
    result = headline(rows({"a": [[True]], "b": [[False]]}), None, RULE)
    assert result.sections[0].repeats is None


def test_unequal_draws_count_as_the_least():
    repeat_rates = rates({"a": [[True], [False], [True]], "b": [[True], [True]]})
    assert (repeat_rates.drawn, [rate.k for rate in repeat_rates.rates]) == (2, [1, 2])
    assert repeat_rates.rates[1].every.value == pytest.approx((1 / 3 + 1) / 2)
    assert rates({"a": [[True], [False]], "b": [[True]]}) is None


def test_a_try_passes_when_each_of_its_wordings_does():
    repeat_rates = rates({"a": [[True, False], [False, True]], "b": [[True, True], [True, False]]}, wordings=(1, 2))
    assert repeat_rates.rates[-1].at_least_one.value == 0.5
    assert repeat_rates.rates[-1].every.value == 0


def test_the_order_of_rows_changes_no_byte_and_json_keeps_all():
    row_list = rows({"a": [[True], [False], [True]], "b": [[True], [True], [False]]})
    first, other = headline(row_list, None, RULE), headline(row_list[::-1], None, RULE)
    assert canonical_json(first) == canonical_json(other)
    assert Headline.model_validate_json(canonical_json(first)) == first
