"""Preference pairs: the declared right answer to a prompt beside what the model itself got wrong. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from modelsmith.evaluation.reward import JudgedPoints, Sampled, nothing_judged
from modelsmith.points.check import grade_point
from modelsmith.schema.base import Slug
from modelsmith.schema.rubric import JudgeCheck, Rubric, RubricPoint
from modelsmith.schema.training_row import PreferencePair, Prompt


class Drawn(NamedTuple):
    """One answer that the model gave."""

    text: str
    cut_off: bool
    """It reached the limit of tokens."""


def pairs_from(
    rubric: Rubric,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Drawn]],
    judged: JudgedPoints = nothing_judged,
) -> tuple[PreferencePair, ...]:
    """One pair for each prompt that the model fails: the right answer, and the failing one that it gives most often.

    An answer fails when it misses a point that must pass. The judge is asked about what passes all declared ones; where
    it finds the failing answer, it must also pass the declared right one, or nothing tells the two apart.
    Of answers that are given equally often the first counts, so that the same answers make the same pairs. The right
    answer over again is no failing one, even where its last number was cut off: a pair of it would teach nothing.

    Args:
        rubric: What scores the answers.
        prompts: Each with what the rubric compares an answer with.
        answers: For each prompt what the model said; none where it could not be asked.
        judged: Which judged points answers pass; left out, these are left aside: what fails without them fails.

    Raises:
        ModelsmithError: as ``judged``.
    """
    missed = _missed(rubric, prompts, answers, judged)
    failed = [
        (prompt, worst, missed[number, worst])
        for number, (prompt, drawn_answers) in enumerate(zip(prompts, answers, strict=True))
        for worst in _most_often(
            [drawn for drawn in drawn_answers if missed[number, drawn] and _differs(prompt, drawn)]
        )
    ]
    doubted = [prompt for prompt, _, points in failed if set(points) & _judged_due(rubric)]
    verdicts = judged([Sampled(prompt.answer, False, prompt.expected, prompt.messages) for prompt in doubted])
    right = {prompt.messages: points for prompt, points in zip(doubted, verdicts, strict=True)}
    return tuple(
        PreferencePair(
            messages=prompt.messages,
            chosen=prompt.answer,
            rejected=worst.text,
            source="generator",
            generator=prompt.generator,
            template=prompt.template,
            points=points,
            rubric=prompt.rubric,
        )
        for prompt, worst, points in failed
        if all(right.get(prompt.messages, {}).get(point, True) for point in points)
    )


def missed_points(rubric: Rubric, prompt: Prompt, answer: Drawn) -> tuple[Slug, ...]:
    """Declared points that must pass and that the answer misses; every point must where the rubric requires none."""
    return tuple(
        point.id
        for point in _due(rubric)
        if not isinstance(point.check, JudgeCheck)
        and not grade_point(point, answer.text, prompt.expected, cut_off=answer.cut_off).passed
    )


def _missed(
    rubric: Rubric, prompts: Sequence[Prompt], answers: Sequence[Sequence[Drawn]], judged: JudgedPoints
) -> dict[tuple[int, Drawn], tuple[Slug, ...]]:
    """By prompt and answer: which points that must pass the answer misses."""
    missed = {
        (number, drawn): missed_points(rubric, prompt, drawn)
        for number, (prompt, drawn_answers) in enumerate(zip(prompts, answers, strict=True))
        for drawn in drawn_answers
    }
    due = _judged_due(rubric)
    open_ = [key for key, points in missed.items() if not points] if due else []
    samples = [
        Sampled(drawn.text, drawn.cut_off, prompts[number].expected, prompts[number].messages)
        for number, drawn in open_
    ]
    for key, verdicts in zip(open_, judged(samples), strict=True):
        missed[key] = tuple(point for point, passed in verdicts.items() if point in due and not passed)
    return missed


def _differs(prompt: Prompt, answer: Drawn) -> bool:
    """Whether it says something else than the right answer, which fails, too, where the limit of tokens ended it."""
    return answer.text.strip() != prompt.answer.strip()


def _due(rubric: Rubric) -> Sequence[RubricPoint]:
    return [point for point in rubric.points if point.required] or list(rubric.points)


def _judged_due(rubric: Rubric) -> set[Slug]:
    return {point.id for point in _due(rubric) if isinstance(point.check, JudgeCheck)}


def _most_often(failed: Sequence[Drawn]) -> Sequence[Drawn]:
    counts = Counter(drawn.text for drawn in failed)
    return sorted(failed, key=lambda drawn: -counts[drawn.text])[:1]
