"""Runbooks of main: found, checked, and bound to the values that whoever runs one gives.

They are read from the forge's main and from nowhere else. What lies in a work tree, in a branch or in a folder of runs
is nobody's word: a file counts once its owners let it through the gate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError

from modelsmith.operations.contract import Cli, Request
from modelsmith.operations.json_kinds import value_at
from modelsmith.operations.runbook_check import FOLDER, find_runbook_problems, loaded, operation_named
from modelsmith.operations.table import require_role
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.document import nearest
from modelsmith.repository.load import load_codeowners
from modelsmith.repository.secrets import refuse_secret
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace, refuse_local
from modelsmith.repository.yamlfile import find_json_problems, invalid
from modelsmith.schema.base import SLUG, Frozen
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.runbook import Condition, Parameter, Plain, Reference, Runbook, RunbookStep
from modelsmith.schema.steps import Step, shell_line

LONGEST: Final = 500
"""Characters of a parameter's text."""

Outcome = dict[str, JsonValue]
"""What a step came to: ``exit`` and ``result``, as a tool for agents answers."""


class GovernedRunbook(NamedTuple):
    """A runbook of main that can run."""

    runbook: Runbook
    path: str
    digest: str
    """Digest of its bytes."""
    tree: Revision
    """Main, as it was read."""

    @property
    def owners(self) -> tuple[str, ...]:
        """Roles and people who approve a change of it."""
        return owners_of(self.tree, self.path)


class ParameterView(Frozen):
    """A value that whoever runs it gives."""

    name: str
    kind: str
    about: str
    required: bool
    default: JsonValue


def parameter_views(runbook: Runbook) -> tuple[ParameterView, ...]:
    """Its parameters, in the file's order."""
    return tuple(
        ParameterView(
            name=name,
            kind=parameter.kind,
            about=parameter.about,
            required=parameter.required,
            default=_json(parameter.default),
        )
        for name, parameter in runbook.parameters.items()
    )


def main_of(workspace: Workspace) -> Revision:
    """Main as the forge has it now.

    Raises:
        InvalidInput: ``no-forge``.
        InfrastructureFailure: ``unreachable``.
    """
    commit = open_forge(workspace).fetch_into(workspace.git)
    refuse_local(workspace.git, commit)
    return workspace.revision(commit)


def runbook_names(tree: Revision) -> list[str]:
    """Names of the runbooks of a commit."""
    names = [path.split("/")[1] for path in tree.paths(FOLDER) if path.count("/") == 1 and path.endswith(".json")]
    return sorted(name.removesuffix(".json") for name in names)


def read_runbook(tree: Revision, name: str) -> GovernedRunbook:
    """The runbook of that name, with every step held against the operation that it calls.

    Raises:
        InvalidInput: ``unknown-runbook``; ``invalid-file`` with everything that is wrong with it.
    """
    path = f"{FOLDER}/{name}.json"
    if not re.fullmatch(SLUG, name) or not tree.exists(path):
        names = runbook_names(tree)
        near = nearest(name, names)
        raise InvalidInput(
            "unknown-runbook",
            f"Main has no runbook {name[:64]!a}",
            f"Did you mean '{near}'?"
            if near
            else f"It has: {', '.join(names) or 'none'}. One counts once it is merged.",
            known=names,
        )
    data = tree.read(path)
    runbook, problems = find_json_problems(path, data, Runbook)
    if runbook is not None:
        problems = find_runbook_problems(path, runbook)
    if runbook is None or problems:
        raise invalid(problems)
    return GovernedRunbook(runbook, path, sha256(data), tree)


def owners_of(tree: Revision, path: str) -> tuple[str, ...]:
    """Owners of a path, as CODEOWNERS names them."""
    return load_codeowners(tree).owners(path)


def bind(runbook: Runbook, texts: Sequence[str]) -> dict[str, JsonValue]:
    """The value of each parameter, from words like ``cluster=rtb-pricing``; null where one is left out.

    Raises:
        InvalidInput: ``bad-parameter``; ``secret``.
    """
    values: dict[str, str] = {}
    for words in texts:
        name, equals, text = words.partition("=")
        if name not in runbook.parameters or not equals:
            near = nearest(name, runbook.parameters)
            names = ", ".join(f"{known_name}=..." for known_name in runbook.parameters) or "none"
            raise _bad(
                name, f"{words[:64]!a} names no parameter", f"Did you mean {near}=...?" if near else f"Known: {names}."
            )
        if name in values:
            raise _bad(name, f"{name} is given twice", "Give it once.")
        refuse_secret(f"The parameter {name}", text)
        values[name] = text
    bound: dict[str, JsonValue] = {}
    for name, parameter in runbook.parameters.items():
        if name in values:
            bound[name] = _value(name, parameter, values[name])
        elif parameter.required:
            raise _bad(name, f"{runbook.runbook} needs {name}: {parameter.about}", f"Add --param {name}=VALUE.")
        else:
            bound[name] = _json(parameter.default)
    return bound


_LINE = TypeAdapter(PlainLine)


def _value(name: str, parameter: Parameter, text: str) -> JsonValue:
    if parameter.kind == "flag":
        if text not in ("true", "false"):
            raise _bad(name, f"{name} is a flag", f"Write {name}=true or {name}=false.")
        return text == "true"
    if parameter.kind == "number":
        if not re.fullmatch(r"-?[0-9]{1,15}", text):
            raise _bad(name, f"{name} is a whole number", f"Write {name}=4, for example.")
        return int(text)
    try:
        if 0 < len(text) <= LONGEST:
            return _LINE.validate_python(text)
        words = f"has from 1 to {LONGEST} characters"
    except ValidationError as error:
        words = error.errors()[0]["msg"].removeprefix("Value error, ")
    raise _bad(name, f"{name}: {words}", "Say it in one plain line.")


def _bad(name: str, message: str, mend: str) -> InvalidInput:
    return InvalidInput("bad-parameter", message, mend, parameter=name[:64])


def arguments_of(
    step: RunbookStep, parameters: Mapping[str, JsonValue], outcomes: Mapping[str, Outcome]
) -> dict[str, JsonValue]:
    """What the step's operation is given; a named value that is null is left out."""
    resolved = {
        name: value_of(value, parameters, outcomes) if isinstance(value, Reference) else _json(value)
        for name, value in step.arguments.items()
    }
    return {name: value for name, value in resolved.items() if value is not None}


def value_of(named: Reference, parameters: Mapping[str, JsonValue], outcomes: Mapping[str, Outcome]) -> JsonValue:
    """A named value; None where there is none."""
    if named.parameter is not None:
        return parameters.get(named.parameter)
    value: JsonValue = value_at(outcomes.get(named.step or "", {}), (named.field or "").split("."))
    return value


def holds(condition: Condition, parameters: Mapping[str, JsonValue], outcomes: Mapping[str, Outcome]) -> bool:
    """Whether a condition holds; a number and a flag are never the same."""
    value, to = value_of(condition, parameters, outcomes), _json(condition.to)
    if condition.test == "is":
        return _same(value, to)
    if condition.test == "is-not":
        return not _same(value, to)
    if condition.test == "one-of":
        return isinstance(to, list) and any(_same(value, item) for item in to)
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in (value, to)):
        return False
    return bool(value >= to if condition.test == "at-least" else value <= to)  # type: ignore[operator]


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def request_of(step: RunbookStep, arguments: Mapping[str, JsonValue]) -> Request:
    """The request that the arguments make, read as strictly as a governed file.

    Raises:
        InvalidInput: ``runbook-argument``.
    """
    try:
        return loaded(step.call).request.model_validate_json(json.dumps(dict(arguments)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            "runbook-argument",
            f"Step {step.id} cannot call {step.call}: {where}: {first['msg'].removeprefix('Value error, ')}",
            "Give another parameter, or have the runbook's owners mend it.",
            step=step.id,
        ) from None


def require_runnable(runbook: Runbook, parameters: Mapping[str, JsonValue], role: str | None) -> None:
    """Refuse a run before its first step: a step that the role may not call, or one that these values do not fit.

    Raises:
        InvalidInput: ``outside-role``, ``no-such-role``, ``runbook-argument``.
    """
    for step in runbook.steps:
        row = operation_named(step.call)
        assert row is not None
        require_role(row, role)
        if all(named.parameter is not None for named in _named(step)):
            request_of(step, arguments_of(step, parameters, {}))


def _named(step: RunbookStep) -> Iterator[Reference]:
    return (value for value in step.arguments.values() if isinstance(value, Reference))


def command_line(step: RunbookStep, parameters: Mapping[str, JsonValue], outcomes: Mapping[str, Outcome]) -> str:
    """The step as a command; what an earlier step has still to say stands as ``<step.field>``."""
    arguments: dict[str, Any] = {}
    for name, value in step.arguments.items():
        if isinstance(value, Reference) and value.step is not None and value.step not in outcomes:
            arguments[name] = f"<{value.step}.{value.field}>"
        else:
            argument = value_of(value, parameters, outcomes) if isinstance(value, Reference) else value
            arguments |= {name: argument} if argument not in (None, False) else {}
    fields = loaded(step.call).request.model_fields
    shapes = {
        name: next((mark for mark in fields[name].metadata if isinstance(mark, Cli)), Cli()) for name in arguments
    }
    first = {name: value for name, value in arguments.items() if shapes[name].argument}
    rest = {
        (shapes[name].option or name).removeprefix("--"): value
        for name, value in arguments.items()
        if not shapes[name].argument
    }
    return shell_line(Step(operation=step.call, arguments=first | rest, positional=len(first)))


def _json(value: Plain | tuple[Plain, ...] | None) -> JsonValue:
    return list(value) if isinstance(value, tuple) else value
