"""The rubric as a reward for training: many completions at once, each worth the very score that evaluation gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from modelsmith.evaluation.scoring import judged_points, point_weights, row_score
from modelsmith.points.check import READING, passes, require_comparable, require_usable
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.rubric import Rubric


class Sampled(NamedTuple):
    """What a model wrote, and what the rubric compares it with."""

    text: str
    """The answer, without the thoughts before it."""
    cut_off: bool
    """It reached its limit of tokens."""
    expected: Mapping[str, JsonValue]


def reward_digest(rubric: str, reading: int = READING) -> str:
    """Identity of a reward: the rubric's digest, and the way in which answers are read (`points.check.READING`)."""
    return digest({"rubric": rubric, "reading": reading})


def require_rewarding(rubric: Rubric, expected: Sequence[Mapping[str, JsonValue]]) -> None:
    """Find what keeps the rubric from rewarding answers to these expectations, before a token is sampled.

    Raises:
        InvalidInput: ``judged-reward`` when a judge decides one of its points: without it the reward would be another
            score than the eval's. Else as `points.check.require_usable` and `require_comparable`.
    """
    judged = [point.id for point in judged_points(rubric)]
    if judged:
        raise InvalidInput(
            "judged-reward",
            f"A judge decides the rubric's points {', '.join(judged)}, and this version cannot ask it for a reward.",
            "Train by sft or dpo, or decide the points by declared checks.",
            points=judged,
        )
    for point in rubric.points:
        require_usable(point)
        for one in expected:
            require_comparable(point, one)


def rewards(rubric: Rubric, sampled: Sequence[Sampled]) -> list[float]:
    """The reward of each, 0 to 1, in order: `scoring.reward` of it.

    Raises:
        InvalidInput: rubric and expectation do not fit.
        InfrastructureFailure: ``judge-unavailable``: a judged point is never a zero.
    """
    weights = point_weights(rubric)
    return [
        row_score(
            {point.id: passes(point, one.text, one.expected, cut_off=one.cut_off) for point in rubric.points}, weights
        )
        for one in sampled
    ]
