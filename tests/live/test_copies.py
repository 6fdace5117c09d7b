"""Copies of requests in the shadow, as the recorder counts them."""

from datetime import timedelta

from modelsmith.live.port import Answered
from modelsmith.live.watching import Shadowed
from tests.live.conftest import RECORD, terms

BESIDE = "sha256:" + "e" * 64
SHADOW = Shadowed(
    "rtb-pricing", "iter-003-0000000b", RECORD, terms(), f"{RECORD} beside {BESIDE}", BESIDE, timedelta(hours=48)
)


def copied(recorder, key):
    for arm in ("incumbent", "specialist"):
        decision = recorder.decided(
            cluster="rtb-pricing", specialist=SHADOW.specialist, incumbent="base", record=SHADOW.counted_as, arm=arm,
            key=f"{arm} {key}", share=0.5, stage="shadow",
        )  # fmt: skip
        recorder.answered(decision, Answered(200, 1.0, 2.0, 1, 1))


def test_a_door_that_starts_again_knows_how_many_copies_were_made(desk):
    desk.recorder.follow([], [], [SHADOW])
    for key in range(7):
        copied(desk.recorder, key)
    desk.again()
    desk.recorder.follow([], [], [SHADOW])
    copied(desk.recorder, 7)
    assert desk.recorder.copies(SHADOW.counted_as).number == 8


def counted(desk, at):
    """Copies of the specialist that the two periods hold which are judged at a moment, the newer first."""
    desk.recorder.flush()
    counts = [desk.recorder._opened().counts(name, ["errors"]) for name in SHADOW.counting(at)]
    return [count and count.stages[0].specialist for count in counts]


def test_copies_count_for_as_long_as_they_may_be_evidence(desk):
    """A key counts once in each period, what is older than two for nothing, and no copy is older than the age."""
    desk.recorder.follow([], [], [SHADOW])
    for key in (1, 1, 2):
        copied(desk.recorder, key)
    before = desk.recorder.copies(SHADOW.counted_as)
    assert (before.number, counted(desk, desk.hands.at)) == (3, [2, None])
    desk.hands.pass_(hours=24)
    copied(desk.recorder, 1)
    after = desk.recorder.copies(SHADOW.counted_as)
    assert (after.number, after.period != before.period, counted(desk, desk.hands.at)) == (1, True, [1, 2])
    oldest = desk.recorder._opened().counts(SHADOW.counting(desk.hands.at)[1], []).began
    assert desk.hands.at - oldest < SHADOW.age
    desk.hands.pass_(hours=24)
    assert counted(desk, desk.hands.at) == [None, 1]


def test_counts_of_the_shadow_are_kept_while_they_are_evidence(desk):
    desk.recorder.follow([], [], [SHADOW])
    copied(desk.recorder, 1)
    start = desk.hands.at
    desk.recorder.flush()
    desk.hands.pass_(hours=24)
    desk.recorder.forget(0)
    assert counted(desk, start) == [1, None]
    desk.hands.pass_(hours=24)
    desk.recorder.forget(0)
    assert counted(desk, start) == [None, None]
