"""Copies of requests in the shadow, as the recorder counts them."""

from modelsmith.live.port import Answered
from modelsmith.live.watching import Shadowed
from tests.live.conftest import RECORD, terms

SHADOW = Shadowed("rtb-pricing", "iter-003-0000000b", RECORD, terms(), f"{RECORD} beside another")


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
    assert desk.recorder.copies(SHADOW.counted_as) == 8


def test_counts_of_the_shadow_are_kept_however_long_nothing_is_added(desk):
    desk.recorder.follow([], [], [SHADOW])
    copied(desk.recorder, 1)
    desk.recorder.flush()
    desk.hands.pass_(days=900)
    desk.recorder.forget(30)
    assert desk.recorder._opened().counts(SHADOW.counted_as, ["errors"]).stages[0].specialist == 1
    desk.recorder.follow([])
    desk.recorder.forget(30)
    assert desk.recorder._opened().counts(SHADOW.counted_as, ["errors"]) is None
