"""Rubrics: weighted points, each with a declarative check. No governed file can run code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from modelsmith.schema.base import MOST_WEIGHT, Frozen, Slug


class Expected(Frozen):
    """Where the expected value comes from: a literal ``value``, or a field of the scenario's ``reference``."""

    value: JsonValue = None
    """A literal expected value."""
    reference: str | None = None
    """A dotted path into the scenario's ``reference``; wins over ``value``."""


class JsonSchemaCheck(Frozen):
    """The answer, read as JSON, satisfies a JSON Schema (draft 2020-12)."""

    type: Literal["json_schema"]
    schema_: dict[str, JsonValue] = Field(alias="schema")
    """The schema."""


class JsonFieldCheck(Frozen):
    """One field of the answer, read as JSON, equals the expected value."""

    type: Literal["json_field"]
    path: str
    """Dotted path into the answer."""
    expected: Expected


class NumberCheck(Frozen):
    """A number in the answer lies within tolerance of the expected one."""

    type: Literal["number"]
    path: str | None = None
    """Dotted path into the answer read as JSON; without it the one number that the text says."""
    expected: Expected
    absolute: Annotated[float, Field(ge=0)] = 0.0
    """Allowed absolute difference, in the number's own unit."""
    relative: Annotated[float, Field(ge=0)] = 0.0
    """Allowed difference as a share of the expected number."""
    unit: Literal["percent", "share"] | None = None
    """How the expected number is given where the text may say a percentage: ``5%`` is 5 percent and a share of 0.05."""


class TextCheck(Frozen):
    """The answer equals the expected text, contains its words, or must not contain it, not even inside a word."""

    type: Literal["text"]
    match: Literal["equals", "contains", "must_not_contain"] = "equals"
    expected: Expected
    ignore_case: bool = True


class RegexCheck(Frozen):
    """The answer matches an RE2 pattern (linear time, no backtracking)."""

    type: Literal["regex"]
    pattern: str


class JudgeCheck(Frozen):
    """A judge model decides by the instruction; a judge that fails is an error, never a zero."""

    type: Literal["judge"]
    instruction: str = Field(min_length=1)
    """What the judge is asked to decide, in the domain owner's words."""


Check = Annotated[
    JsonSchemaCheck | JsonFieldCheck | NumberCheck | TextCheck | RegexCheck | JudgeCheck, Field(discriminator="type")
]


class RubricPoint(Frozen):
    """One thing that a right answer does."""

    id: Slug
    """Named by criteria, verdicts and training rows."""
    text: str = Field(min_length=1)
    """The point in words a domain owner signs."""
    weight: Annotated[float, Field(gt=0, le=MOST_WEIGHT)]
    """Share of the score, relative to the other points."""
    required: bool = True
    """A scenario passes only when every required point passes."""
    check: Check
    """How the point is decided."""


class Rubric(Frozen):
    """The definition of "better". The training reward is this very scoring function."""

    id: Slug
    owner: Slug
    """Role that owns the meaning of this rubric."""
    description: str
    points: Annotated[tuple[RubricPoint, ...], Field(min_length=1, max_length=200)]
