"""Whether a runbook can run: each step against the operation that it calls, before anything is called. Pure.

Every name is looked up in a table that is data: operations by their names, arguments by the fields of the request,
fields of results by the JSON Schema of what ``--json`` prints. None of them reaches an object of the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from modelsmith.operations.json_kinds import NUMBERS, kind_of, kinds_at, takes
from modelsmith.operations.table import OPERATIONS, Operation, Verb
from modelsmith.repository.document import Problem, nearest
from modelsmith.schema.docs import json_schema
from modelsmith.schema.runbook import Condition, Parameter, Reference, Runbook, RunbookStep

KINDS: Final = {"text": "string", "number": "integer", "flag": "boolean"}
"""JSON of a parameter's kinds."""
FOLDER: Final = "runbooks"
EXIT: Final = "exit"
RESULT: Final = "result"


def operation_named(name: str) -> Operation | None:
    """The row of the table with that name, where a runbook may call it."""
    operation = next((operation for operation in OPERATIONS if operation.name == name), None)
    return None if operation is None or why_not(operation) else operation


def why_not(operation: Operation) -> str:
    """Why no runbook calls an operation; empty for one that it may call."""
    if operation.effect == "decides":
        return "is a person's: no runbook approves or rejects"
    if operation.name.startswith("runbook "):
        return "would be a runbook within a runbook"
    if operation.name == "jobs resume":
        return (
            "goes on with whatever a job was asked for: no reader of the runbook sees that, no token's scope covers it"
        )
    if not operation.repeatable and not operation.long:
        return "does more when it is called again, as it is after a kill"
    return ""


@cache
def loaded(name: str) -> Verb:
    """The operation of that name, with its types."""
    return next(operation for operation in OPERATIONS if operation.name == name).load()


def find_runbook_problems(path: str, runbook: Runbook) -> list[Problem]:
    """Everything that would keep it from running as it stands."""
    return [Problem(path, None, where, message, mend) for where, message, mend in _problems(path, runbook)]


_Mistake = tuple[str, str, str]
"""Where in the file, what is wrong, and how to mend it."""


def _problems(path: str, runbook: Runbook) -> Iterator[_Mistake]:
    stem = path.rpartition("/")[2].removesuffix(".json")
    if runbook.runbook != stem:
        yield "runbook", f"the name is not the file's, '{stem}'", f'Write "runbook": "{stem}".'
    yield from _parameters(runbook)
    earlier: dict[str, RunbookStep] = {}
    for number, step in enumerate(runbook.steps):
        where = f"steps[{number}]"
        if step.id in earlier:
            yield f"{where}.id", f"'{step.id}' names an earlier step too", "Give each step a name of its own."
        yield from _step(where, step, runbook, earlier)
        earlier[step.id] = step


def _parameters(runbook: Runbook) -> Iterator[_Mistake]:
    named = {reference.parameter for step in runbook.steps for reference in _references(step)}
    for name, parameter in runbook.parameters.items():
        where = f"parameters.{name}"
        if name not in named:
            yield where, "no step uses it", "Remove it, or name it in a step."
        if parameter.default is not None and kind_of(parameter.default) != KINDS[parameter.kind]:
            yield f"{where}.default", f"is no {parameter.kind}", f"Give a {parameter.kind}, or another kind."


def _step(where: str, step: RunbookStep, runbook: Runbook, earlier: dict[str, RunbookStep]) -> Iterator[_Mistake]:
    conditions = tuple(step.when)
    for number, condition in enumerate(step.when):
        yield from _condition(f"{where}.when[{number}]", condition, runbook, earlier, conditions[:number])
    row = operation_named(step.call)
    if row is None:
        yield f"{where}.call", *_no_operation(step.call)
        return
    yield from _arguments(f"{where}.arguments", step, runbook, earlier)
    so_far = earlier | {step.id: step}
    for number, condition in enumerate(step.expect):
        yield from _condition(f"{where}.expect[{number}]", condition, runbook, so_far, conditions)
    if step.person and isinstance(step.person.who, Reference):
        at = f"{where}.person.who"
        kinds = yield from _reference(at, step.person.who, runbook, so_far, conditions)
        if kinds and not kinds <= {"array", "string", "null"}:
            yield at, f"names no people: it is {_words(kinds)}", "Name a field like result.pull.waiting_for."


def _no_operation(name: str) -> tuple[str, str]:
    operation = next((operation for operation in OPERATIONS if operation.name == name), None)
    if operation:
        return f"'{name}' {why_not(operation)}", "Give the step before it a `person`, and have them do it."
    near = nearest(name, [operation.name for operation in OPERATIONS if not why_not(operation)])
    return f"there is no operation '{name}'", f"Did you mean '{near}'?" if near else "docs/operations.md lists them."


def _arguments(where: str, step: RunbookStep, runbook: Runbook, earlier: dict[str, RunbookStep]) -> Iterator[_Mistake]:
    request = loaded(step.call).request
    fields, schema = request.for_others(), _schema(step.call, "request")
    for name, field in request.model_fields.items():
        if field.is_required() and name not in step.arguments:
            mend = "Add it." if name in fields else "Call another operation: this one needs a path, or a person."
            yield where, f"{step.call} needs '{name}'", mend
    for name, value in step.arguments.items():
        at = f"{where}.{name}"
        if name not in fields:
            person = name in request.model_fields
            near = nearest(name, fields)
            yield (
                at,
                f"{step.call} takes no '{name}'"
                + (" from a runbook: it is a path, or a person's to say" if person else ""),
                f"Did you mean '{near}'?" if near and not person else f"It takes {', '.join(fields) or 'nothing'}.",
            )
        elif isinstance(value, Reference):
            kinds = yield from _reference(at, value, runbook, earlier, step.when)
            if kinds and not takes(kinds_at(schema, [name]), kinds):
                wants = kinds_at(schema, [name])
                yield at, f"takes {_words(wants)}, and what is named gives {_words(kinds)}", "Name another field."
        elif problem := value_problem(fields[name], value):
            yield at, problem, f"See `modelsmith {step.call} --help`."


def value_problem(field: FieldInfo, value: Any) -> str:
    """Why a field of a request does not take a value that is written out; empty when it does."""
    try:
        typed: Any = Annotated[field.annotation, field, *field.metadata]
        TypeAdapter[Any](typed).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
    return ""


def _condition(
    where: str, condition: Condition, runbook: Runbook, so_far: dict[str, RunbookStep], conditions: Sequence[Condition]
) -> Iterator[_Mistake]:
    kinds = yield from _reference(where, condition, runbook, so_far, conditions)
    compared = condition.to
    if condition.test in ("at-least", "at-most"):
        if kinds and not kinds - {"null"} <= NUMBERS:
            yield where, f"compares {_words(kinds)} as a number", "Name a field that is a number."
        if kind_of(compared) not in NUMBERS:
            yield f"{where}.to", "is no number", "Give one."
        return
    if (condition.test == "one-of") != isinstance(compared, tuple) and condition.test == "one-of":
        yield f"{where}.to", "is no list", "Give the values that it may be."
        return
    for value in compared if condition.test == "one-of" and isinstance(compared, tuple) else (compared,):
        if kinds and kind_of(value) not in (kinds | {"integer"} if "number" in kinds else kinds):
            yield (
                f"{where}.to",
                f"{json.dumps(value)} is never what is named: that is {_words(kinds)}",
                "Compare it with such.",
            )


def _reference(
    where: str, named: Reference, runbook: Runbook, so_far: dict[str, RunbookStep], conditions: Sequence[Condition]
) -> Any:
    """Kinds of JSON that a named value may be; what is wrong with it on the way, and then no kind.

    A step that may be passed over may be named only where its own conditions are among ``conditions``, which hold.
    """
    if named.parameter is not None:
        parameter = runbook.parameters.get(named.parameter)
        if parameter is None:
            near = nearest(named.parameter, runbook.parameters)
            mend = f"Did you mean '{near}'?" if near else "Add it to parameters."
            yield where, f"there is no parameter '{named.parameter}'", mend
            return frozenset()
        return _kinds_of(parameter)
    assert named.step is not None
    assert named.field is not None
    step = so_far.get(named.step)
    if step is None:
        later = any(planned.id == named.step for planned in runbook.steps)
        words = f"step '{named.step}' does not come before this" if later else f"there is no step '{named.step}'"
        yield where, words, "Name an earlier step."
        return frozenset()
    if not set(step.when) <= set(conditions):
        yield where, f"step '{named.step}' may have been passed over", "Repeat its `when` here, first."
        return frozenset()
    head, *rest = named.field.split(".")
    if operation_named(step.call) is None:
        return frozenset()
    if head == EXIT and not rest:
        return frozenset({"integer"})
    kinds = kinds_at(_schema(step.call, RESULT), rest) if head == RESULT and rest else frozenset()
    if not kinds:
        top = ", ".join(f"result.{name}" for name in _schema(step.call, RESULT)["properties"])
        yield where, f"{step.call} gives no '{named.field}'", f"It gives exit, {top}."
    return kinds


def _kinds_of(parameter: Parameter) -> frozenset[str]:
    kind = frozenset({KINDS[parameter.kind]})
    return kind if parameter.required or parameter.default is not None else kind | {"null"}


def _references(step: RunbookStep) -> Iterator[Reference]:
    yield from (value for value in step.arguments.values() if isinstance(value, Reference))
    yield from (*step.when, *step.expect)
    if step.person and isinstance(step.person.who, Reference):
        yield step.person.who


@cache
def _schema(name: str, which: str) -> dict[str, Any]:
    verb = loaded(name)
    return json_schema(verb.result, "serialization") if which == RESULT else json_schema(verb.request, "validation")


def _words(kinds: Iterable[str]) -> str:
    return " or ".join(sorted(kinds))
