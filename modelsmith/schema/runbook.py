"""Runbooks: operational playbooks as data, which people and agents run step by step.

Each step calls one operation of the table. Nothing in a runbook is an expression: a value is written out, or it is
named, as a parameter or as a field of what an earlier step came to. There is no loop and no runbook within a runbook,
so one that loads ends after as many calls as it has steps.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Frozen, Slug
from modelsmith.schema.plaintext import PlainLine

MOST_STEPS = 40
MOST_PARAMETERS = 20

StepId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
ParameterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
OperationName = Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*( [a-z]+(-[a-z]+)*)?$", max_length=64)]
"""The words after ``modelsmith``."""
FieldPath = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*(\.([A-Za-z][A-Za-z0-9_-]*|0|[1-9][0-9]*))*$", max_length=200)
]
"""Names and positions with dots between them: ``exit``, or ``result.`` and a field of what ``--json`` prints."""
Line = Annotated[PlainLine, Field(min_length=1, max_length=500)]

Plain = bool | int | float | str
"""A value that is written out."""
Test = Literal["is", "is-not", "one-of", "at-least", "at-most"]


class Reference(Frozen):
    """A value that is named: ``{"parameter": NAME}``, or ``{"step": ID, "field": PATH}``.

    Reading one never fails: what is not there is null.
    """

    parameter: ParameterName | None = None
    step: StepId | None = None
    """An earlier step."""
    field: FieldPath | None = None
    """``exit``, or ``result.`` and the name of a field of that step's result, with more names and positions in it."""

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.parameter is None) == (self.step is None) or (self.step is None) != (self.field is None):
            raise ValueError("name a parameter, or a step and a field of it")
        return self


class Condition(Reference):
    """A condition on a named value."""

    test: Test
    """``is``, ``is-not``, ``one-of`` a list, ``at-least``, ``at-most``."""
    to: Plain | tuple[Plain, ...] | None
    """The value that it is compared with."""


class Owners(Frozen):
    """The owners of a path, by main's CODEOWNERS."""

    owners_of: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", max_length=200)]


class Person(Frozen):
    """Where a runbook stops for a person."""

    who: Owners | Reference
    """Who is asked: the owners of a path, or those whom a result names."""
    asks: Line
    """The action that the person is asked for."""


class RunbookStep(Frozen):
    """One call of an operation, and what must come of it before the next step begins.

    Where that does not hold, the runbook stops for ``person`` and calls the same again when it is run again; without
    one, it has failed.
    """

    id: StepId
    about: Line
    """The purpose of the step."""
    call: OperationName
    arguments: dict[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)], Reference | Plain | tuple[Plain, ...]
    ] = {}
    """Fields of the operation's request, by the names that `schema export --operations` shows. One whose named value is
    null is left out."""
    when: Annotated[tuple[Condition, ...], Field(max_length=10)] = ()
    """The step is passed over unless all of them hold, looked at in order."""
    exits: Annotated[tuple[Annotated[int, Field(ge=0, le=6)], ...], Field(min_length=1, max_length=7)] = (0,)
    """Exit codes of the same command with which the runbook goes on."""
    expect: Annotated[tuple[Condition, ...], Field(max_length=10)] = ()
    """What must hold of this step's result, or of earlier ones."""
    person: Person | None = None


class Parameter(Frozen):
    """A value that whoever runs the runbook gives."""

    kind: Literal["text", "number", "flag"]
    about: Line
    default: Plain | None = None
    """Taken where none is given. A parameter without this line must be given; one with null may be left out."""

    @property
    def required(self) -> bool:
        """Whether the parameter must be given."""
        return "default" not in self.model_fields_set


class Runbook(Frozen):
    """``runbooks/<name>.json``."""

    runbook: Slug
    """Its name, which is the file's."""
    title: Line
    about: Line
    """When to run it."""
    parameters: Annotated[dict[ParameterName, Parameter], Field(max_length=MOST_PARAMETERS)] = {}
    steps: Annotated[tuple[RunbookStep, ...], Field(min_length=1, max_length=MOST_STEPS)]
