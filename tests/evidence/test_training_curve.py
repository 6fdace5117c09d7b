"""The curve of a training shows the greedy score beside the reward, and does not break on what a training can be."""

from __future__ import annotations

from xml.etree import ElementTree

from modelsmith.evidence.training_curve import training_curve
from modelsmith.training.job import Heartbeat
from modelsmith.training.measures import Measures


def beat(step: int, loss: float = 0.5, measures: Measures | None = None) -> Heartbeat:
    return Heartbeat(step=step, steps=8, loss=loss, seconds=1, eta=1, measures=measures)


def measured(step: int) -> Measures:
    held_in = 0.5 - step / 100 if step % 4 == 0 else None
    return Measures(
        reward=step / 10, length=20, cut_off=0, entropy=0.5, equal_groups=0, kl=0.01 if held_in else None,
        held_in=held_in, held_in_before=0.5 if step == 1 else None,
    )  # fmt: skip


def test_reward_and_greedy_score_stand_in_one_panel() -> None:
    picture = training_curve([beat(step, measures=measured(step)) for step in range(1, 9)], "grpo of rtb-pricing")
    ElementTree.fromstring(picture)
    assert "sampled reward 0.100 at step 1 to 0.800 at step 8" in picture
    assert "greedy, held in 0.500 at step 0 to 0.420 at step 8" in picture
    assert "8 of 8 steps" in picture


def test_a_training_without_reward_shows_its_loss_only_and_one_without_steps_says_so() -> None:
    plain = training_curve([beat(1, 0.9), beat(2, 0.7), beat(2, 0.6)], "sft")
    assert "loss 0.900 at step 1 to 0.600 at step 2" in plain
    assert "sampled reward" not in plain
    ElementTree.fromstring(plain)
    none = training_curve([], "<script>&")
    assert "No step yet." in none
    ElementTree.fromstring(none)
