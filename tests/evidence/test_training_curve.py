"""The curve of a training shows the greedy score beside the reward, and does not break on what a training can be."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hostile_words import HOSTILE
from picture_rules import assert_readable

from modelsmith.evidence.lineage_section import training_picture, training_section
from modelsmith.evidence.packet import packet
from modelsmith.evidence.sanitise import assert_clean
from modelsmith.evidence.training_curve import StageShown, training_curve
from modelsmith.governance.audiences import for_reviewers
from modelsmith.schema.canonical import digest
from modelsmith.schema.curve import MOST_POINTS
from modelsmith.schema.promotion import StageFacts
from modelsmith.training.curves import curve_of
from modelsmith.training.job import Heartbeat
from modelsmith.training.measures import Measures


def beat(step: int, loss: float = 0.5, measures: Measures | None = None) -> Heartbeat:
    return Heartbeat(step=step, steps=8, loss=loss, seconds=1, eta=1, measures=measures)


def measured(step: int) -> Measures:
    held_in = 0.5 - step / 100 if step % 4 == 0 else None
    return Measures(
        reward=step / 10, content=0.125, length=20, cut_off=0, entropy=0.5, equal_groups=0,
        kl=0.01 if held_in else None, held_in=held_in, held_in_before=0.5 if step == 1 else None,
    )  # fmt: skip


SUPERVISED = [beat(1, 0.9), beat(2, 0.7), beat(2, 0.6)]
REWARDED = [beat(step, measures=measured(step)) for step in range(1, 9)]


def drawn(beats: list[Heartbeat], title: str) -> str:
    curve = curve_of(beats)
    return training_curve([StageShown("", 8, curve)] if curve else [], title)


def test_reward_and_greedy_score_stand_in_one_panel() -> None:
    picture = drawn(REWARDED, "grpo of rtb-pricing")
    assert_readable(picture)
    assert "sampled reward 0.100 at step 1 to 0.800 at step 8" in picture
    assert "greedy, held in 0.500 at step 0 to 0.420 at step 8" in picture
    assert "points of content 0.125 at step 1 to 0.125 at step 8" in picture
    assert "8 of 8 steps" in picture


def test_a_training_without_reward_shows_its_loss_and_says_if_no_steps() -> None:
    plain = drawn(SUPERVISED, "sft")
    assert "loss 0.900 at step 1 to 0.600 at step 2" in plain
    assert "sampled reward" not in plain
    assert_readable(plain)
    none = drawn([], "<script>&")
    assert "No step yet." in none
    ElementTree.fromstring(none)


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_in_a_name_are_words_in_the_picture(words: str) -> None:
    curve = curve_of(REWARDED)
    assert curve
    root = ElementTree.fromstring(training_curve([StageShown(words, 8, curve)], words))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg", "title", "desc", "rect", "text", "line", "g", "polyline", "circle"
    }  # fmt: skip


def test_of_a_long_training_a_hundred_points_are_kept_with_both_ends() -> None:
    curve = curve_of([beat(step, loss=1 / 3 + step) for step in range(1, 5001)])
    assert curve
    (line,) = curve.lines
    assert (len(line.points), line.points[0], line.points[-1]) == (MOST_POINTS, (1, 1.333), (5000, 5000.0))


@pytest.fixture
def rewarded(small):
    """The evidence of a candidate that was trained by sft, then by grpo."""
    stages = tuple(
        StageFacts(method=method, settings=digest("s"), seed=1, parent=None, rows=9, rows_digest=digest("r"), steps=8)
        for method in ("sft", "grpo")
    )
    curves = tuple(curve_of(beats, stage) for stage, beats in enumerate((SUPERVISED, REWARDED), start=1))
    return small.model_copy(update={"training": small.training.model_copy(update={"stages": stages, "curves": curves})})


def test_a_reviewer_reads_in_the_packet_how_the_training_went(rewarded, small, cluster) -> None:
    text = packet(rewarded, cluster)
    assert_clean(text.encode())
    assert (
        "### How it was trained\n\n![Training of iter-001-3f9c2a7e: loss, and where answers are rewarded reward, score "
        "held in and KL, by step](training.svg)\n\n"
        "- stage 1 of 2, sft: loss 0.900 to 0.600\n"
        "- stage 2 of 2, grpo: loss 0.500 to 0.500, sampled reward 0.100 to 0.800, "
        "greedy score held in 0.500 to 0.420, KL 0.010 to 0.010\n"
    ) in text
    assert training_section(small) == ""
    assert training_picture(small) is None


def test_who_keeps_the_loss_for_operators_keeps_its_curve_too(rewarded) -> None:
    reviewed = for_reviewers(rewarded, {"TrainingFacts.final_loss": "operator"})
    assert (reviewed.training.final_loss, reviewed.training.curves) == (None, ())
    assert training_picture(reviewed) is None


def test_the_packets_picture_shows_every_stage_and_is_always_the_same(rewarded) -> None:
    picture = training_picture(rewarded)
    assert picture
    assert_readable(picture)
    assert "stage 1 of 2, sft: 2 of 8 steps" in picture
    assert "stage 2 of 2, grpo: 8 of 8 steps" in picture
    assert training_picture(type(rewarded).model_validate_json(rewarded.model_dump_json())) == picture
