"""Preference pairs: the declared right answer to a prompt beside what the model itself got wrong. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from modelsmith.points.check import grade_point
from modelsmith.schema.base import Slug
from modelsmith.schema.rubric import JudgeCheck, Rubric
from modelsmith.schema.training_row import PreferencePair, Prompt


class Drawn(NamedTuple):
    """One answer that the model gave."""

    text: str
    cut_off: bool
    """It reached the limit of tokens."""


def pairs_from(
    rubric: Rubric, prompts: Sequence[Prompt], answers: Sequence[Sequence[Drawn]]
) -> tuple[PreferencePair, ...]:
    """One pair for each prompt that the model fails: the right answer, and the failing one that it gives most often.

    An answer fails when it misses a point that must pass. Judged points are left aside: what fails without them fails.
    Of answers that are given equally often the first counts, so that the same answers make the same pairs.

    Args:
        rubric: What scores the answers.
        prompts: Each with what the rubric compares an answer with.
        answers: For each prompt what the model said; none where it could not be asked.
    """
    return tuple(
        PreferencePair(
            messages=prompt.messages,
            chosen=prompt.answer,
            rejected=worst.text,
            source="generator",
            generator=prompt.generator,
            template=prompt.template,
            points=missed_points(rubric, prompt, worst),
            rubric=prompt.rubric,
        )
        for prompt, given in zip(prompts, answers, strict=True)
        for worst in _most_often([one for one in given if missed_points(rubric, prompt, one)])
    )


def missed_points(rubric: Rubric, prompt: Prompt, answer: Drawn) -> tuple[Slug, ...]:
    """Declared points that must pass and that the answer misses; every point must where the rubric requires none."""
    due = [point for point in rubric.points if point.required] or list(rubric.points)
    return tuple(
        point.id
        for point in due
        if not isinstance(point.check, JudgeCheck)
        and not grade_point(point, answer.text, prompt.expected, cut_off=answer.cut_off).passed
    )


def _most_often(failed: Sequence[Drawn]) -> Sequence[Drawn]:
    counts = Counter(one.text for one in failed)
    return sorted(failed, key=lambda one: -counts[one.text])[:1]
