"""One rubric point against one answer: the verdict, and why.

A pure function of (point, completion, reference). Whatever a model writes ends in a verdict; what is wrong with the
rubric or the reference is raised, never counted as a zero, and is found before the answer is looked at, or without any
answer by `require_usable` and `require_comparable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, assert_never

from pydantic import JsonValue

from modelsmith.points.answers import composed, composed_text, look_up, read_answer_once, same, short_json, too_long
from modelsmith.points.json_schemas import first_problem, prepare, satisfies
from modelsmith.points.patterns import matches, size
from modelsmith.points.schema_shape import pattern_steps
from modelsmith.points.texts import alike, as_read, every_reading, holds
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.rubric import (
    Expected,
    JsonFieldCheck,
    JsonSchemaCheck,
    JudgeCheck,
    NumberCheck,
    RegexCheck,
    RubricPoint,
    TextCheck,
)

if TYPE_CHECKING:
    from modelsmith.points.numbers import StatedNumber

_PLAIN_TO_SEE = Decimal("1e-6")
"""The share by which two numbers differ that look different at a glance."""
READING = 4
"""Counts the ways in which answers have ever been read: where it goes up, a verdict of before is none of today's."""
MAX_REASON = 300
"""Characters of a reason that are kept."""


class PointVerdict(NamedTuple):
    """Whether a rubric point passed; `reason` says why it failed and is empty when it passed."""

    passed: bool
    reason: str


def grade_point(
    point: RubricPoint, completion: str, reference: Mapping[str, JsonValue], *, cut_off: bool = False
) -> PointVerdict:
    """Decide one rubric point. The answer is the completion without surrounding white space.

    ``cut_off`` says that the answer reached its limit: its last word or number may be half of one.

    Raises:
        InvalidInput: the point cannot be decided for any answer: ``bad-reference-path``, ``bad-expected``,
            ``bad-pattern`` or ``bad-schema``.
        InfrastructureFailure: ``judge-unavailable`` for a judged point.
    """
    reason = _reason(point, completion, reference, cut_off)
    return PointVerdict(not reason, bounded(reason))


def passes(point: RubricPoint, completion: str, reference: Mapping[str, JsonValue], *, cut_off: bool = False) -> bool:
    """Whether `grade_point` lets it pass, for those who ask no why; raises as that does."""
    if not isinstance(point.check, JsonSchemaCheck):
        return not _reason(point, completion, reference, cut_off)
    answer, problem = read_answer_once(completion)
    if problem:
        prepare(point.check.schema_)
        return False
    return satisfies(point.check.schema_, answer) and not _half_a_number(answer, cut_off)


def bounded(reason: str) -> str:
    """A reason as it is kept: at most `MAX_REASON` characters, all of which can be written as UTF-8."""
    return reason.encode("utf-8", "replace").decode()[:MAX_REASON]


def require_usable(point: RubricPoint) -> None:
    """Find what keeps the point from deciding anything, whatever the scenario.

    Raises:
        InvalidInput: ``bad-pattern`` or ``bad-schema``.
        InfrastructureFailure: ``judge-unavailable`` for a judged point.
    """
    match point.check:
        case JsonSchemaCheck():
            prepare(point.check.schema_)
        case RegexCheck():
            matches(point.check.pattern, "")
        case JudgeCheck():
            raise InfrastructureFailure(
                "judge-unavailable",
                f"Rubric point '{point.id}' is decided by a judge model, and none is available.",
                "Name a judge under judge: in evalset.yaml, or decide the point with a declarative check.",
                point=point.id,
            )
        case JsonFieldCheck() | NumberCheck() | TextCheck():
            pass
        case never:
            assert_never(never)


def cost(point: RubricPoint) -> int:
    """Steps of the patterns that the point compiles; it is usable."""
    match point.check:
        case JsonSchemaCheck():
            return pattern_steps(point.check.schema_)
        case RegexCheck():
            return size(point.check.pattern)
        case _:
            return 0


def require_comparable(point: RubricPoint, reference: Mapping[str, JsonValue]) -> None:
    """Find what keeps the point from being compared with this reference.

    Raises:
        InvalidInput: ``bad-reference-path`` or ``bad-expected``.
    """
    match point.check:
        case JsonFieldCheck():
            _expected(point.id, point.check.expected, reference)
        case NumberCheck():
            _expected_number(point.id, point.check.expected, reference)
        case TextCheck():
            _expected_text(point.id, point.check.expected, reference)
        case _:
            pass


def _reason(point: RubricPoint, completion: str, reference: Mapping[str, JsonValue], cut_off: bool) -> str:
    require_usable(point)
    match point.check:
        case JsonSchemaCheck():
            return _schema_reason(point.check, completion, cut_off)
        case JsonFieldCheck():
            expected = _expected(point.id, point.check.expected, reference)
            return _field_reason(point.check, completion, expected)
        case NumberCheck():
            number = _expected_number(point.id, point.check.expected, reference)
            return _number_reason(point.check, completion, number, cut_off)
        case TextCheck():
            text = _expected_text(point.id, point.check.expected, reference)
            return _text_reason(point.check, completion, text, cut_off)
        case RegexCheck():
            return _regex_reason(point.check, completion)
        case JudgeCheck():
            raise AssertionError("require_usable lets no judged point through")
        case never:
            assert_never(never)


def _expected(point: str, expected: Expected, reference: Mapping[str, JsonValue]) -> JsonValue:
    value, exists = expected.value, True
    if expected.reference is not None:
        value, exists = look_up(dict(reference), expected.reference)
    if not exists:
        raise InvalidInput(
            "bad-reference-path",
            f"Rubric point '{point}' compares with the reference field '{expected.reference}', which a scenario lacks.",
            "Add the field to the scenario's reference, or correct the path in the rubric.",
            point=point,
            path=expected.reference,
        )
    try:
        return composed(value)
    except ValueError:
        raise _unusable(point, "keys that differ in more than their Unicode form", value) from None


def _expected_number(point: str, expected: Expected, reference: Mapping[str, JsonValue]) -> float:
    value = _expected(point, expected, reference)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
        raise _unusable(point, "a number", value)
    return value


def _expected_text(point: str, expected: Expected, reference: Mapping[str, JsonValue]) -> str:
    value = _expected(point, expected, reference)
    if not isinstance(value, str) or not alike(value, ignore_case=False):
        raise _unusable(point, "a text that is not empty", value)
    return value


def _unusable(point: str, needed: str, value: JsonValue) -> InvalidInput:
    return InvalidInput(
        "bad-expected",
        f"Rubric point '{point}' needs {needed} to compare with, but the expected value is {short_json(value)}.",
        "Correct the expected value in the rubric or the scenario's reference.",
        point=point,
    )


def _schema_reason(check: JsonSchemaCheck, completion: str, cut_off: bool) -> str:
    answer, problem = read_answer_once(completion)
    if _half_a_number(answer, cut_off):
        return "the answer was cut off at its limit of tokens, perhaps in the middle of its number"
    return problem or first_problem(check.schema_, answer)


def _half_a_number(answer: JsonValue, cut_off: bool) -> bool:
    return cut_off and isinstance(answer, (int, float)) and not isinstance(answer, bool)


def _field_reason(check: JsonFieldCheck, completion: str, expected: JsonValue) -> str:
    answer, problem = read_answer_once(completion)
    if problem:
        return problem
    value, exists = look_up(answer, composed_text(check.path))
    if not exists:
        return f"the answer has no field '{check.path}'"
    return "" if same(value, expected) else f"'{check.path}' is {short_json(value)}, expected {short_json(expected)}"


def _number_reason(check: NumberCheck, completion: str, expected: float, cut_off: bool) -> str:
    stated, problem = _stated_number(check.path, completion, cut_off)
    if problem:
        return problem
    aim = Decimal(repr(expected))
    allowed = Decimal(repr(check.absolute)) + Decimal(repr(check.relative)) * abs(aim)
    number_stated, share = stated.number, stated.number / stated.per
    number = {"percent": share * 100 if stated.per > 1 else number_stated, "share": share, None: number_stated}[
        check.unit
    ]
    if check.unit is None and abs(aim) <= 1 and (abs(number_stated - aim) <= allowed) != (abs(share - aim) <= allowed):
        return (
            f"cannot tell whether the answer means {_figure(number_stated)} or {_figure(share)}: "
            "the number is a percentage, and the check has no `unit`"
        )
    off = abs(number - aim)
    if off <= allowed:
        return ""
    said_so = f"the number is {_figure(number)}, expected {short_json(expected)} give or take {allowed:g}"
    return said_so if abs(off) > abs(aim) * _PLAIN_TO_SEE else f"{said_so}; it is off by {off:.3g}"


def _figure(number: Decimal) -> str:
    """A number as it is written, however little it differs from another; a very long one in short."""
    text = str(number)
    return text if len(text) <= 40 else f"{number:.30g}"


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _stated_number(path: str | None, completion: str, cut_off: bool) -> tuple[StatedNumber, str]:
    from modelsmith.points.numbers import StatedNumber, number_in_text  # its patterns are slow to compile

    if path is None:
        problem = too_long(completion)
        return (StatedNumber(Decimal(0)), problem) if problem else number_in_text(completion, cut_off=cut_off)
    answer, problem = read_answer_once(completion)
    value, exists = look_up(answer, composed_text(path))
    if not problem and not exists:
        problem = f"the answer has no field '{path}'"
    if problem:
        return StatedNumber(Decimal(0)), problem
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return StatedNumber(Decimal(0)), f"'{path}' is {short_json(value)}, not a number"
    return StatedNumber(Decimal(repr(value))), ""


def _text_reason(check: TextCheck, completion: str, expected: str, cut_off: bool) -> str:
    if problem := too_long(completion):
        return problem
    text = alike(expected, ignore_case=check.ignore_case)
    if check.match == "must_not_contain":
        readings = (alike(text, ignore_case=check.ignore_case) for text in every_reading(completion))
        return f"the answer contains {short_json(expected)}" if any(text in reading for reading in readings) else ""
    answer = alike(as_read(completion), ignore_case=check.ignore_case)
    if check.match == "equals":
        same_text = text in (answer, alike(completion, ignore_case=check.ignore_case))
        return "" if same_text else f"the answer is not {short_json(expected)}"
    if holds(answer, text, cut_off=cut_off and completion[-1:].strip() != ""):
        return ""
    inside = " as a whole word or number of its own" if text in answer else ""
    return f"the answer does not contain {short_json(expected)}{inside}"


def _regex_reason(check: RegexCheck, completion: str) -> str:
    if problem := too_long(completion):
        return problem
    return "" if matches(check.pattern, composed_text(completion.strip())) else "the answer does not match the pattern"
