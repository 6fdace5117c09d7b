"""The rubric as a reward for training: many completions at once, each worth the very score that evaluation gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from modelsmith.evaluation.judges.port import Judge, JudgeQuestion, JudgeVerdict
from modelsmith.evaluation.scoring import decide, judged_points, point_weights, row_score
from modelsmith.points.check import READING, passes, require_comparable, require_usable
from modelsmith.points.format_points import content_points
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.rubric import JudgeCheck, Rubric
from modelsmith.schema.scenario import Message, Scenario


class Sampled(NamedTuple):
    """A text that a model wrote, and what the rubric compares it with."""

    text: str
    """The answer, without the thoughts before it."""
    cut_off: bool
    """It reached its limit of tokens."""
    expected: Mapping[str, JsonValue]
    messages: tuple[Message, ...] = ()
    """The conversation that was answered; only a judge reads it."""


def reward_digest(rubric: str, reading: int = READING, judge: str | None = None) -> str:
    """Identity of a reward: the rubric's digest and the way in which answers are read (`points.check.READING`).

    ``judge`` is the identity of the judge, where one decides points of the rubric.
    """
    return digest({"rubric": rubric, "reading": reading} | ({"judge": judge} if judge else {}))


def require_rewarding(rubric: Rubric, expected: Sequence[Mapping[str, JsonValue]], judge_calls: int | None) -> None:
    """Find what keeps the rubric from rewarding answers to these expectations, before a token is sampled.

    Raises:
        InvalidInput: ``judged-reward`` when a judge decides one of its points and nothing says how often it may be
            asked. Else as `points.check.require_usable` and `require_comparable`.
    """
    judged = [point.id for point in judged_points(rubric)]
    if judged and judge_calls is None:
        raise InvalidInput(
            "judged-reward",
            f"A judge decides the rubric's points {', '.join(judged)}, and the stage does not say how often it may be "
            "asked for a reward.",
            "Write `judge_calls: N` into the grpo stage, or train by sft or dpo.",
            points=judged,
        )
    for point in rubric.points:
        if point.id not in judged:
            require_usable(point)
        for reference in expected:
            require_comparable(point, reference)


class Earned(NamedTuple):
    """Score of one answer."""

    score: float
    """The reward: its score in an eval, 0 to 1."""
    content: float | None
    """The same by the points of content alone (`content_points`); None where the rubric has no others, or none."""


def earned(rubric: Rubric, sampled: Sequence[Sampled], judge: Judge | None = None) -> list[Earned]:
    """Scores of the answers, in their order.

    Raises:
        InvalidInput: rubric and expectation do not fit.
        InfrastructureFailure: ``judge-unavailable``: a judged point is never a zero.
        ModelsmithError: what kept the judge from a verdict on one of them.
    """
    return list(map(_worth(rubric), _decided(rubric, sampled, judge)))


def earned_or_unclear(
    rubric: Rubric, sampled: Sequence[Sampled], judge: Judge, unclear: Collection[str]
) -> list[Earned | ModelsmithError]:
    """What each answer is worth, in order; or why the judge came to no verdict on it, by an error of these codes.

    Raises:
        InvalidInput: rubric and expectation do not fit.
        ModelsmithError: what else kept the judge from a verdict on one of them.
    """
    worth, results = _worth(rubric), list[Earned | ModelsmithError]()
    for sample, verdicts in zip(sampled, _judged(rubric, sampled, judge), strict=True):
        errors = [verdict.error for verdict in verdicts.values() if verdict.error]
        if errors and all(error.code in unclear for error in errors):
            results.append(errors[0])
        else:
            results.append(worth(decide(rubric, sample.expected, sample.text, verdicts, cut_off=sample.cut_off)[0]))
    return results


def _worth(rubric: Rubric) -> Callable[[Mapping[str, bool]], Earned]:
    """A function from the points that an answer passes to its score."""
    weights = point_weights(rubric)
    content = {point.id for point in content_points(rubric.points)}
    of_content = tuple(weight for weight in weights if weight.id in content)
    told_apart = 0 < len(of_content) < len(weights)

    def worth(passed: Mapping[str, bool]) -> Earned:
        inside = {name: right for name, right in passed.items() if name in content}
        return Earned(row_score(passed, weights), row_score(inside, of_content) if told_apart else None)

    return worth


def rewards(rubric: Rubric, sampled: Sequence[Sampled], judge: Judge | None = None) -> list[float]:
    """The reward of each, 0 to 1, in order: the score of it in an eval. Raises as `earned`."""
    return [item.score for item in earned(rubric, sampled, judge)]


def _decided(rubric: Rubric, sampled: Sequence[Sampled], judge: Judge | None) -> Iterator[dict[str, bool]]:
    """Each answer's points, and whether they passed."""
    if judge is not None and judged_points(rubric):
        verdicts = _judged(rubric, sampled, judge)
        for number, sample in enumerate(sampled):
            yield decide(rubric, sample.expected, sample.text, verdicts[number], cut_off=sample.cut_off)[0]
        return
    for sample in sampled:
        yield {point.id: passes(point, sample.text, sample.expected, cut_off=sample.cut_off) for point in rubric.points}


JudgedPoints = Callable[[Sequence[Sampled]], list[dict[str, bool]]]
"""Says of each answer which judged points it passes, by the point's id."""


def nothing_judged(sampled: Sequence[Sampled]) -> list[dict[str, bool]]:
    """`JudgedPoints` where no judge is asked: no point is decided."""
    return [{} for _ in sampled]


def scores(rubric: Rubric, sampled: Sequence[Sampled], judged: JudgedPoints) -> list[float]:
    """What each answer scores in an eval, 0 to 1, in order; ``judged`` decides the judged points.

    Raises:
        InvalidInput: rubric and expectation do not fit.
        IntegrityFailure: ``points-differ`` where ``judged`` leaves one out.
        ModelsmithError: as ``judged``.
    """
    declared = rubric.model_copy(
        update={"points": tuple(point for point in rubric.points if not isinstance(point.check, JudgeCheck))}
    )
    weights = point_weights(rubric)
    return [
        row_score(
            {p.id: passes(p, sample.text, sample.expected, cut_off=sample.cut_off) for p in declared.points} | verdicts,
            weights,
        )
        for sample, verdicts in zip(sampled, judged(sampled), strict=True)
    ]


def judged_of(rubric: Rubric, sampled: Sequence[Sampled], judge: Judge) -> list[dict[str, bool]]:
    """Which judged points each answer passes, by the point's id, in order.

    Raises:
        InfrastructureFailure: ``judge-unavailable`` where the judge says nothing of one.
        ModelsmithError: what kept the judge from a verdict: never a fail.
    """
    only = rubric.model_copy(update={"points": judged_points(rubric)})
    return [
        decide(only, sample.expected, sample.text, verdicts)[0]
        for sample, verdicts in zip(sampled, _judged(rubric, sampled, judge), strict=True)
    ]


def _judged(rubric: Rubric, sampled: Sequence[Sampled], judge: Judge) -> list[dict[str, JudgeVerdict]]:
    """The judge's verdicts on each by the point's id; one that it leaves out is missing."""
    places: dict[str, tuple[int, str]] = {}
    questions = []
    for number, sample in enumerate(sampled):
        scenario = practice(sample)
        for point in judged_points(rubric):
            question = JudgeQuestion(f"{number}#{point.id}", point, scenario, sample.text)
            places[question.key] = (number, point.id)
            questions.append(question)
    verdicts_by_sample: list[dict[str, JudgeVerdict]] = [{} for _ in sampled]
    for verdict in judge.decide(questions) if questions else ():
        number, judged = places[verdict.key]
        verdicts_by_sample[number][judged] = verdict
    return verdicts_by_sample


def practice(sample: Sampled) -> Scenario:
    """What was asked as a case that a judge can be asked about; it has no words of its own for any point."""
    return Scenario.model_construct(
        id="practice", capability="practice", risk="low", operator_lens="practice", outcome_type="practice",
        critical=False, context=(), messages=sample.messages, reference=dict(sample.expected), criteria=(), variants=(),
    )  # fmt: skip
