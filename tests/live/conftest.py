"""A recorder that watches one deployment, with a clock that the test sets."""

from datetime import UTC, datetime, timedelta

import pytest

from modelsmith.live.clock import Clock
from modelsmith.live.latch import Latches
from modelsmith.live.recorder import LiveRecorder
from modelsmith.live.watching import Watching
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.watch import Guard, Rule

OPENS = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = bytes(range(32))
RECORD = digest("deployment")


class Hands:
    """Two clocks that a test sets by hand."""

    def __init__(self):
        self.at, self.ran = OPENS + timedelta(minutes=1), 0.0

    def pass_(self, **time):
        self.at += timedelta(**time)
        self.ran += timedelta(**time).total_seconds()

    def clock(self):
        return Clock(lambda: self.at, lambda: self.ran)


def terms(**rule):
    facts = {"least_decisions": 50, "errors": Guard(max_rise=0.02), "late_minutes": 60} | rule
    return Rollback(metric="auction_win_rate", max_drop=0.1, window_minutes=60, manual_hours=48, rule=Rule(**facts))


def watching(record=RECORD, **rule):
    return Watching("rtb-pricing", "iter-002-0000000a", record, terms(**rule), OPENS)


class Desk:
    """A door's recorder and what happens at it."""

    def __init__(self, folder):
        self.folder, self.hands, self.told, self.made = folder, Hands(), [], 0
        self.recorder = self.open()

    def open(self):
        recorder = LiveRecorder(self.folder, KEY, lambda: self.told.append(self.is_on_disk()), self.hands.clock())
        recorder.follow([watching()])
        return recorder

    def is_on_disk(self):
        return Latches(self.folder / "latches").is_set(RECORD)

    def again(self):
        """The door is started anew on what the last one left."""
        self.recorder.close()
        self.recorder = self.open()
        return self.recorder

    def decided(self, arm=None, key=None, share=0.2, stage="canary", record=RECORD, cluster="rtb-pricing"):
        """Every fifth request is the specialist's, as its share of 0.2 says."""
        self.made += 1
        return self.recorder.decided(
            cluster=cluster, specialist="iter-002-0000000a", incumbent="base", record=record,
            arm=arm or ("specialist" if self.made % 5 == 0 else "incumbent"), key=key or f"key-{self.made}",
            share=share, stage=stage,
        )  # fmt: skip

    def traffic(self, number, mine, theirs):
        """Decisions with their outcomes: each arm wins in this part of its decisions."""
        decisions = [self.decided() for _ in range(number)]
        won = {"specialist": 0.0, "incumbent": 0.0}
        reports = []
        for decision in decisions:
            rate = mine if decision.arm == "specialist" else theirs
            won[decision.arm] += rate
            value = int(won[decision.arm] >= 1)
            won[decision.arm] -= value
            reports.append(report(decision, value))
        self.recorder.flush()
        return decisions, reports


def report(decision, value=1, key=None, metric="auction_win_rate"):
    identity = getattr(decision, "id", decision)
    return {"decision_id": identity, "metric": metric, "value": value, "idempotency_key": key or f"of {identity}"}


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path / "live")
    yield made
    made.recorder.close()
