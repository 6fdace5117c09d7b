"""What an answer is worth: the weighted share of its passed points.

Evaluation, evidence and the training reward share these functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from modelsmith.evaluation.judges.port import JudgeVerdict
from modelsmith.points.check import PointVerdict, bounded, grade_point
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.rubric import JudgeCheck, Rubric, RubricPoint
from modelsmith.schema.run import PointWeight
from modelsmith.schema.scenario import Scenario

NOT_JUDGED: Final[Mapping[str, JudgeVerdict]] = {}


def point_weights(rubric: Rubric) -> tuple[PointWeight, ...]:
    """The rubric's scoring rule as evidence carries it."""
    return tuple(PointWeight(id=p.id, weight=p.weight, required=p.required) for p in rubric.points)


def judged_points(rubric: Rubric) -> tuple[RubricPoint, ...]:
    """The points that a judge model decides."""
    return tuple(point for point in rubric.points if isinstance(point.check, JudgeCheck))


def score_completion(
    rubric: Rubric,
    scenario: Scenario,
    completion: str,
    judged: Mapping[str, JudgeVerdict] = NOT_JUDGED,
    *,
    cut_off: bool = False,
) -> tuple[dict[str, bool], dict[str, str]]:
    """Each rubric point and whether it passed; and, for each failed point, why.

    ``judged`` holds the judge's verdicts on this completion by the id of the judged point; ``cut_off`` says that the
    completion reached its limit.

    Raises:
        InvalidInput: rubric and reference do not fit (see `checks.check`).
        InfrastructureFailure: ``judge-unavailable`` for a judged point without a verdict.
        ModelsmithError: what kept the judge from a verdict: a failed judge is an error, never a zero.
    """
    return decide(rubric, scenario.reference, completion, judged, cut_off=cut_off)


def reward(rubric: Rubric, reference: Mapping[str, JsonValue], completion: str, *, cut_off: bool = False) -> float:
    """The training reward, 0 to 1: the very score that evaluation gives; ``cut_off`` as in `score_completion`.

    Raises:
        InvalidInput: rubric and reference do not fit.
        InfrastructureFailure: ``judge-unavailable``.
    """
    return row_score(decide(rubric, reference, completion, cut_off=cut_off)[0], point_weights(rubric))


def row_score(points: Mapping[str, bool], weights: Sequence[PointWeight]) -> float:
    """Weighted share of passed points, 0 to 1.

    Raises:
        IntegrityFailure: ``points-differ`` when the verdicts do not speak of exactly the rule's points.
    """
    _require_same_points(points, weights)
    return math.fsum(w.weight for w in weights if points[w.id]) / math.fsum(w.weight for w in weights)


def row_passed(points: Mapping[str, bool], weights: Sequence[PointWeight]) -> bool:
    """Whether every required point passed; every point counts as required when the rubric requires none.

    Raises:
        IntegrityFailure: ``points-differ``.
    """
    _require_same_points(points, weights)
    needed = [w.id for w in weights if w.required] or [w.id for w in weights]
    return all(points[point] for point in needed)


def decide(
    rubric: Rubric,
    reference: Mapping[str, JsonValue],
    completion: str,
    judged: Mapping[str, JudgeVerdict] = NOT_JUDGED,
    *,
    cut_off: bool = False,
) -> tuple[dict[str, bool], dict[str, str]]:
    """What `score_completion` gives, against a reference that need not be a scenario's. Raises as that does."""
    verdicts = {
        point.id: _by_judge(judged[point.id])
        if isinstance(point.check, JudgeCheck) and point.id in judged
        else grade_point(point, completion, reference, cut_off=cut_off)
        for point in rubric.points
    }
    return (
        {point: verdict.passed for point, verdict in verdicts.items()},
        {point: verdict.reason for point, verdict in verdicts.items() if not verdict.passed},
    )


def _by_judge(verdict: JudgeVerdict) -> PointVerdict:
    if verdict.error is not None:
        raise verdict.error
    return PointVerdict(verdict.passed, "" if verdict.passed else bounded(verdict.reason))


def _require_same_points(points: Mapping[str, bool], weights: Sequence[PointWeight]) -> None:
    if points.keys() != {w.id for w in weights}:
        raise IntegrityFailure(
            "points-differ",
            "A verdict row does not speak of exactly the rubric points of the rule.",
            "Run the eval again with the rubric that the rule was made from.",
            verdicts=sorted(points),
            rule=sorted(w.id for w in weights),
        )
