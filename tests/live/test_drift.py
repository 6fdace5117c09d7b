"""A validated specialist is watched week by week: told once, taken back by nobody, and no report of a window counts."""

import json
import random
import time
from datetime import UTC, datetime, timedelta

import pytest
from happenings import make_plain_clone

from modelsmith.governance.drift import DAY, WEEK, Rate
from modelsmith.ledger.ledger import ledger_of
from modelsmith.live.clock import Clock
from modelsmith.live.watching import Validated
from modelsmith.loop.keeping import Keeper
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.events import FleetDrift
from tests.live.conftest import OPENS, RECORD, report, terms, watching

SINCE = OPENS + timedelta(minutes=2)


def validated(**other):
    facts = {
        "cluster": "rtb-pricing", "specialist": "iter-002-0000000a", "record": RECORD, "terms": terms(),
        "since": SINCE, "baseline": {"auction_win_rate": Rate(600, 1_000)},
    }  # fmt: skip
    return Validated(**(facts | other))


def served(recorder, number, rate, name="key"):
    """Decisions of full traffic, of which so many win; each with its report."""
    chance, reports = random.Random(number), []
    for n in range(number):
        decision = recorder.decided(
            cluster="rtb-pricing", specialist="iter-002-0000000a", incumbent="iter-002-0000000a", record=RECORD,
            arm="incumbent", key=f"{name}-{n}", share=0.0, stage="full",
        )  # fmt: skip
        reports.append(report(decision, int(chance.random() < rate)))
    rows = [recorder.feedback(json.dumps({"reports": reports[at : at + 500]}).encode()) for at in range(0, number, 500)]
    recorder.flush()
    return [status for status, _ in rows]


@pytest.fixture
def settled(desk):
    desk.hands.pass_(minutes=10)
    desk.recorder.follow([], [validated()])
    return desk


def test_a_metric_that_leaves_its_envelope_is_told_and_no_more(settled):
    assert served(settled.recorder, 1_000, 0.6) == [200, 200]
    assert settled.recorder.drifts() == []
    settled.hands.pass_(days=7)
    served(settled.recorder, 1_000, 0.3)
    assert settled.recorder.drifts() == [], "it may be a bad morning"
    settled.hands.pass_(days=1)
    ((deployment, week, drift),) = settled.recorder.drifts()
    assert (deployment.specialist, week, drift.metric, drift.baseline) == (
        "iter-002-0000000a",
        1,
        "auction_win_rate",
        0.6,
    )
    assert drift.observed == pytest.approx(0.3, abs=0.02)
    assert not settled.recorder.latched(RECORD)
    again = settled.again()
    again.follow([], [validated()])
    assert again.drifts() == []
    settled.hands.pass_(days=1)
    assert [drift.metric for _, _, drift in again.drifts()] == ["auction_win_rate"], (
        "also when the door was started anew, at the next day's end"
    )
    settled.hands.pass_(days=7)
    late = settled.again()
    late.follow([], [validated()])
    assert [week for _, week, _ in late.drifts()] == [1], "and in the week after, where nobody was told in time"


def test_a_bad_morning_is_no_drift_and_a_bad_day_is(settled):
    """The rate moves by half with the hour, around what was validated; then around a third less."""
    for day, level in ((1, 0.6), (2, 0.6), (3, 0.4), (4, 0.4)):
        for hour in (0.5, 1.5):
            served(settled.recorder, 400, level * hour, f"day {day}, {hour}")
            settled.hands.pass_(hours=12)
            assert bool(settled.recorder.drifts()) == (day == 4 and hour == 1.5), (day, hour)


def test_one_key_counts_once_a_week(settled):
    served(settled.recorder, 1, 0.0)
    for _ in range(1_000):
        decision = settled.recorder.decided(
            cluster="rtb-pricing", specialist="iter-002-0000000a", incumbent="iter-002-0000000a", record=RECORD,
            arm="incumbent", key="key-0", share=0.0, stage="full",
        )  # fmt: skip
        settled.recorder.feedback(json.dumps(report(decision, 0)).encode())
    settled.recorder.flush()
    assert settled.recorder.drifts() == []


def test_late_reports_of_the_window_count_for_no_week(desk):
    late = [desk.decided("specialist") for _ in range(3)]
    desk.recorder.follow([], [validated()])
    for decision in late:
        assert desk.recorder.feedback(json.dumps(report(decision)).encode())[1]["result"] == "not-watched"
    desk.recorder.follow([watching()])
    full = desk.decided("incumbent", stage="full", share=0.0)
    assert desk.recorder.feedback(json.dumps(report(full)).encode())[1]["result"] == "not-watched"


def test_every_subscriber_hears_of_a_drift_once(tmp_path, monkeypatch):
    """The door notes it in the ledger, from which events, webhooks and streams are read; a restart notes no second."""
    monkeypatch.setenv("MODELSMITH_HOME", str(tmp_path / "home"))
    workspace = Workspace.find(make_plain_clone(tmp_path / "clone"))
    messages = []
    since = datetime.now(UTC) - timedelta(hours=1)
    for number in range(2):
        keeper = Keeper(workspace, messages.append)
        try:
            keeper.recorder.follow([], [validated(since=since)])
            served(keeper.recorder, 400, 0.2)
            keeper.recorder._clock = Clock(
                lambda: datetime.now(UTC) + DAY, lambda: time.monotonic() + DAY.total_seconds()
            )
            assert keeper.recorder.drifts()
            end = time.monotonic() + 60
            while not (number or messages) and time.monotonic() < end:
                time.sleep(0.05)
            keeper._tell_drift()
        finally:
            keeper.close()
    (recorded,) = ledger_of(workspace).events()
    assert isinstance(recorded.event, FleetDrift)
    assert (recorded.event.metric, recorded.event.baseline) == ("auction_win_rate", 0.6)
    assert recorded.event.window.ended - recorded.event.window.began == WEEK
    assert [words.split(":")[0] for words in messages] == ["iter-002-0000000a of rtb-pricing drifts"]
