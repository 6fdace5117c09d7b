"""After validation: a quarter within the envelope raises no alarm, and a fall beyond it is seen within its week."""

from __future__ import annotations

import random

import pytest

from modelsmith.governance.drift import WEEKS, Rate, drifted, envelope
from modelsmith.governance.window import watched
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.watch import Guard, Outcome, Rule

TERMS = Rollback(
    metric="won", max_drop=0.1, window_minutes=60, manual_hours=48,
    rule=Rule(outcomes={"complaints": Outcome(better="lower", max_loss=0.2)}, errors=Guard(max_rise=0.02)),
)  # fmt: skip
BASELINE = {"won": Rate(600, 1_000), "complaints": Rate(100, 1_000), "errors": Rate(10, 1_000)}
TRUE = {name: rate.events / rate.known for name, rate in BASELINE.items()}


def quarter(rates, chance, units=2_000, looks=20, baseline=BASELINE):
    """Weeks of a quarter in which something is found, with looks all along."""
    drifts = []
    for week in range(WEEKS):
        counted = dict.fromkeys(rates, (0, 0))
        for _ in range(looks):
            for name, rate in rates.items():
                events, denominator = counted[name]
                more = sum(chance.random() < rate for _ in range(units // looks))
                counted[name] = events + more, denominator + units // looks
            drifts += [
                (week, drift.metric) for drift in drifted(TERMS, baseline, {k: Rate(*v) for k, v in counted.items()})
            ]
    return drifts


def test_the_envelope_is_the_validated_rate_less_what_the_contract_allows():
    """With endless counts; with few, what the estimate may be wrong by is left to the specialist."""
    for factor, least, most in ((10**9, 0, 1e-4), (1, 0.01, 0.05)):
        for metric_watched, edge in zip(watched(TERMS), (0.54, 0.12, 0.03), strict=True):
            events, denominator = BASELINE[metric_watched.name]
            bound = envelope(metric_watched, Rate(events * factor, denominator * factor), 0.01)
            assert least <= (edge - bound if metric_watched.higher else bound - edge) <= most


def test_a_quiet_quarter_raises_no_alarm():
    """Although the baseline is an estimate from a small window, and at the very edge of what the contract allows."""
    chance, alarms = random.Random(1), 0
    edge = {"won": 0.54, "complaints": 0.12, "errors": 0.03}
    for rates in (TRUE, edge):
        for _ in range(40):
            measured = {name: Rate(sum(chance.random() < rate for _ in range(300)), 300) for name, rate in TRUE.items()}
            alarms += bool(quarter(rates, chance, units=400, looks=8, baseline=measured))
    assert alarms <= 4, "of 80 quarters"


@pytest.mark.parametrize(("metric", "rate"), [("won", 0.42), ("complaints", 0.22), ("errors", 0.1)])
def test_a_fall_beyond_the_envelope_is_seen_within_its_week(metric, rate):
    drifts = quarter(TRUE | {metric: rate}, random.Random(2))
    assert {week for week, _ in drifts} == set(range(WEEKS))
    assert {name for _, name in drifts} == {metric}


def test_little_or_nothing_counted_says_nothing():
    for week in ({}, {"won": Rate(0, 0)}, {"won": Rate(0, 99)}):
        assert drifted(TERMS, BASELINE, week) == ()
    assert drifted(TERMS, {}, {"won": Rate(0, 10_000)}) == ()
    assert drifted(TERMS.model_copy(update={"rule": None}), BASELINE, {"won": Rate(0, 10_000)}) == ()
