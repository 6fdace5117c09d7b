"""The format that a rubric asks of every answer: what can be checked of live answers, where no reference is at hand."""

from __future__ import annotations

from collections.abc import Iterable

from modelsmith.points.check import passes
from modelsmith.schema.rubric import JsonSchemaCheck, RegexCheck, RubricPoint, TextCheck


def format_points(points: Iterable[RubricPoint]) -> tuple[RubricPoint, ...]:
    """The required points that the answer alone decides: schemas, patterns, and literal words that it must not contain.

    What an answer must say (a field's value, a number, a text) depends on the question, even where the rubric writes it
    down, so it is not a format.
    """
    return tuple(point for point in points if point.required and _of_the_answer_alone(point))


def content_points(points: Iterable[RubricPoint]) -> tuple[RubricPoint, ...]:
    """The points that no answer passes by its form alone, required or not; a judged one is among them."""
    return tuple(point for point in points if not _of_the_answer_alone(point))


def keeps_format(points: Iterable[RubricPoint], completion: str, *, cut_off: bool = False) -> bool:
    """Whether an answer passes all of the `format_points`.

    Raises:
        InvalidInput: as `passes`; never for points of a set that validates.
    """
    return all(passes(point, completion, {}, cut_off=cut_off) for point in points)


def _of_the_answer_alone(point: RubricPoint) -> bool:
    check = point.check
    if isinstance(check, TextCheck):
        return check.match == "must_not_contain" and check.expected.reference is None
    return isinstance(check, (JsonSchemaCheck, RegexCheck))
