"""A reference as the right answer that it stands for, and what the rubric's declared points say of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from modelsmith.points.answers import look_up
from modelsmith.points.check import grade_point
from modelsmith.schema.rubric import (
    JsonFieldCheck,
    JsonSchemaCheck,
    JudgeCheck,
    NumberCheck,
    Rubric,
    RubricPoint,
    TextCheck,
)


def declared(rubric: Rubric) -> list[tuple[int, RubricPoint]]:
    """Points that need no judge, with their positions."""
    return [(n, point) for n, point in enumerate(rubric.points) if not isinstance(point.check, JudgeCheck)]


def right_answers(rubric: Rubric, reference: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """How the reference is given as an answer, shortest first; nothing where the rubric does not tell.

    A point that reads JSON asks for JSON: the reference itself, close or spaced. Else a point that a text equals asks
    for that text.
    """
    checks = [point.check for _, point in declared(rubric)]
    if any(isinstance(check, (JsonSchemaCheck, JsonFieldCheck)) or _reads_field(check) for check in checks):
        return _as_json(reference)
    for check in checks:
        if isinstance(check, TextCheck) and check.match == "equals":
            path = check.expected.reference
            value = check.expected.value if path is None else look_up(dict(reference), path)[0]
            return (value,) if isinstance(value, str) else ()
    return ()


def _as_json(reference: Mapping[str, JsonValue]) -> tuple[str, str]:
    """The reference as JSON, close and spaced."""
    return (
        json.dumps(reference, ensure_ascii=False, separators=(",", ":")),
        json.dumps(reference, ensure_ascii=False),
    )


def failed_points(
    rubric: Rubric, reference: Mapping[str, JsonValue], answers: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """Positions of the declared points that none of the answers passes, and why the first does not.

    Raises:
        InvalidInput: as `check`.
    """
    for number, point in declared(rubric):
        verdicts = [grade_point(point, answer, reference) for answer in answers]
        if verdicts and not any(verdict.passed for verdict in verdicts):
            yield number, verdicts[0].reason


def needed(rubric: Rubric) -> frozenset[str]:
    """Points without which no scenario passes; all of them when none is required."""
    required = frozenset(point.id for point in rubric.points if point.required)
    return required or frozenset(point.id for point in rubric.points)


def _reads_field(check: object) -> bool:
    return isinstance(check, NumberCheck) and check.path is not None
