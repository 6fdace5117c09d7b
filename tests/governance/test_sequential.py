"""Evidence that may be looked at after every event: it lies no more often than it says, and finds what is there."""

import math
import random
from math import comb, factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.governance.sequential import (
    Arms,
    difference_estimate,
    difference_evidence,
    excluded,
    imbalance_evidence,
    ratio_estimate,
    ratio_evidence,
)

SHARES = st.sampled_from([0.01, 0.1, 0.2, 0.5, 0.9])


def due(share, ratio):
    return share * ratio / (share * ratio + 1 - share)


@given(
    SHARES, st.integers(1, 40), st.sampled_from([0.8, 0.96, 1.0, 1.04]), st.sampled_from([1.0, 1.1, 3.0]), st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_a_ratio_within_the_hypothesis_gains_nothing_on_average(share, events, tested, further, below):
    truth = tested * further if below else tested / further
    q = due(share, truth)
    mean = math.fsum(
        comb(events, a) * q**a * (1 - q) ** (events - a)
        * math.exp(ratio_evidence([Arms(share, a, events - a, 0, 0)], tested, below=below))
        for a in range(events + 1)
    )  # fmt: skip
    assert mean <= 1 + 1e-9


@given(SHARES, st.integers(1, 9), st.floats(0, 0.4), st.floats(-0.3, 0.3), st.floats(0, 0.3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_difference_within_the_hypothesis_gains_nothing_on_average(share, units, rate, tested, further, below):
    true = tested + further if below else tested - further
    mine = rate + true
    if not 0 <= mine <= 1:
        return
    a_chance, b_chance = share * mine, (1 - share) * rate
    quiet = 1 - a_chance - b_chance
    mean = math.fsum(
        factorial(units) / (factorial(a) * factorial(b) * factorial(units - a - b))
        * a_chance**a * b_chance**b * quiet ** (units - a - b)
        * math.exp(difference_evidence([Arms(share, a, b, units, 0)], tested, below=below))
        for a in range(units + 1) for b in range(units + 1 - a)
    )  # fmt: skip
    assert mean <= 1 + 1e-9


@given(SHARES, SHARES, *[st.integers(0, 30)] * 4)
@settings(max_examples=50, deadline=None)
def test_a_stage_without_events_changes_nothing(share, other, a, b, c, d):
    arms = Arms(share, a, b, a + c, b + d)
    empty = Arms(other, 0, 0, 0, 0)
    for below in (True, False):
        assert ratio_evidence([arms, empty], 0.96, below=below) == ratio_evidence([arms], 0.96, below=below)
        assert difference_evidence([empty, arms], 0.02, below=below) == difference_evidence([arms], 0.02, below=below)
    assert ratio_estimate([arms, empty]) == ratio_estimate([arms])
    assert difference_estimate([arms, empty]) == difference_estimate([arms])


def test_two_halves_of_one_stage_are_the_whole():
    halves = [Arms(0.2, 10, 50, 60, 240), Arms(0.2, 5, 41, 60, 240)]
    whole = [Arms(0.2, 15, 91, 120, 480)]
    assert ratio_evidence(halves, 1.0, below=True) == pytest.approx(ratio_evidence(whole, 1.0, below=True))
    assert difference_evidence(halves, 0.01, below=False) == pytest.approx(
        difference_evidence(whole, 0.01, below=False)
    )


def first_alarm(seed, ratio, share=0.2, rate=0.2, units=12_000, every=100, key=lambda unit: unit):
    """After how many units the e-value passes 20, looked at all the way; None when it never does."""
    draw = random.Random(seed)
    arm_of, a, b = {}, 0, 0
    for unit in range(1, units + 1):
        mine = arm_of.setdefault(key(unit), draw.random() < share)
        hour = 1 + 0.5 * math.sin(unit / 900)
        won = draw.random() < rate * hour * (ratio if mine else 1)
        a, b = a + (mine and won), b + (not mine and won)
        if unit % every == 0 and ratio_evidence([Arms(share, a, b, 0, 0)], 1.0, below=True) >= math.log(20):
            return unit
    return None


def test_no_difference_is_seldom_called_one_however_often_it_is_looked_at():
    """The bound is 5 %; these 120 runs have fixed seeds. 10,000 runs are in benchmarks/window.py."""
    alarms = [first_alarm(seed, 1.0, units=4_000) for seed in range(120)]
    assert sum(alarm is not None for alarm in alarms) <= 6


def test_a_loss_of_a_fifth_is_found_within_ten_thousand_decisions():
    alarms = [first_alarm(seed, 0.7) for seed in range(20)]
    assert all(alarms)
    assert sorted(alarms)[10] < 5_000


def test_decisions_of_few_keys_are_no_independent_evidence():
    """What counting by key is for: the same traffic from 30 keys, counted by decision, lies in many runs."""
    by_decision = [first_alarm(seed, 1.0, units=4_000, key=lambda unit: unit % 30) for seed in range(40)]
    assert sum(alarm is not None for alarm in by_decision) > 8


def test_bounds_hold_the_truth_and_close_in():
    few, many = Arms(0.5, 20, 25, 100, 100), Arms(0.5, 2_000, 2_500, 10_000, 10_000)
    for arms, widest in ((few, 3.0), (many, 0.2)):
        low = excluded(lambda r, arms=arms: ratio_evidence([arms], r, below=False), 0.8, 1e-6, 0.05)
        high = excluded(lambda r, arms=arms: ratio_evidence([arms], r, below=True), 0.8, 1e6, 0.05)
        assert low < 0.8 < high
        assert high - low < widest


def test_a_bound_that_nothing_excludes_is_none():
    assert excluded(lambda r: ratio_evidence([Arms(0.5, 1, 1, 2, 2)], r, below=False), 1.0, 0.5, 0.05) is None


def test_reports_of_one_arm_that_go_missing_are_noticed():
    assert imbalance_evidence([(0.2, 150, 1_000)]) > math.log(20)
    assert imbalance_evidence([(0.2, 350, 1_000)]) > math.log(20)
    assert imbalance_evidence([(0.2, 250, 1_000)]) < 0
