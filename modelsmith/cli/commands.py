"""Click commands made from the operations table: a request's fields become arguments and options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from modelsmith.cli.asking import agreed, answers, asked_fields, cli_of, click_type
from modelsmith.cli.examples import epilog
from modelsmith.cli.output import print_result, reporter
from modelsmith.cli.streams import OutputLost
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.table import Operation, require_role
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.docs import field_docs
from modelsmith.schema.errors import InvalidInput

ROLE = "MODELSMITH_ROLE"
"""Environment variable with the role of the session; whoever starts an agent sets it."""


def command_for(operation: Operation) -> click.Command:
    """The click command of one operation."""
    verb = operation.load()
    docs = field_docs(verb.request)
    params: list[click.Parameter] = [
        _parameter(name, field, docs.get(name)) for name, field in verb.request.model_fields.items()
    ]
    params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object on stdout."))
    return click.Command(
        operation.name.split()[-1],
        params=params,
        callback=_callback(operation),
        short_help=operation.summary,
        help=_help(operation, verb.request.__doc__ or ""),
        epilog=epilog(operation.name),
    )


def _help(operation: Operation, text: str) -> str:
    paragraphs = [operation.summary, *(p for p in text.strip().split("\n\n") if p != operation.summary)]
    return "\n\n".join(" ".join(p.split()) if not p.startswith("\b") else p for p in paragraphs)


def _callback(operation: Operation) -> Callable[..., int]:
    @click.pass_context
    def call(context: click.Context, /, as_json: bool, **values: Any) -> int:
        require_role(operation, os.environ.get(ROLE))
        verb = operation.load()
        directory = _working_folder()
        typed = [name for name in values if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
        _refuse_for_role(verb.request, typed, operation.name)
        values |= {name: _located(values[name], directory) for name in typed}
        if missing := asked_fields(verb.request, typed):
            values |= answers(verb.request, missing, values, directory, as_json)
        request = _request(verb.request, values)
        with reporter(as_json) as notify:
            role = os.environ.get(ROLE)
            workspace = (
                Workspace(directory, notify=notify) if operation.anywhere else Workspace.find(directory, notify, role)
            )
            result = verb.run(workspace, request)
        _show(operation.name, result, as_json)
        question = None if as_json else result.question()
        if question and agreed(question):
            result = verb.run(workspace, request.model_copy(update={"yes": True}))
            _show(operation.name, result, as_json)
        return int(result.exit_code())

    return call


def _show(name: str, result: Result, as_json: bool) -> None:
    try:
        print_result(name, result, as_json)
        sys.stdout.flush()
    except OutputLost as lost:
        if not lost.reader_left:
            raise


def _refuse_for_role(kind: type[Request], typed: Collection[str], name: str) -> None:
    """A session with a role is an agent's: it may not say what only a person says."""
    role = os.environ.get(ROLE)
    theirs = sorted(field for field in typed if cli_of(kind.model_fields[field]).person)
    if role and theirs:
        raise InvalidInput(
            "outside-role",
            f"--{theirs[0]} of {name} is for a person, and this session has the role {role!a}",
            "A person runs it in a session of their own, where MODELSMITH_ROLE is not set.",
            operation=name,
            role=role,
            roles=[],
        )


def _working_folder() -> Path:
    """The folder that the caller is in."""
    try:
        return place(Path.cwd(), Path("/"))
    except FileNotFoundError:
        raise InvalidInput(
            "no-folder", "The folder that you are in is gone", "Change into one that is there, then run it again."
        ) from None


def _located(value: Any, directory: Path) -> Any:
    """A path of the command line is relative to where its caller is, whatever the command works on."""
    if isinstance(value, tuple):
        return tuple(_located(each, directory) for each in value)
    return place(value, directory) if isinstance(value, Path) else value


def _request(kind: type[Request], values: dict[str, Any]) -> Request:
    """The request that the words on the command line make.

    Raises:
        InvalidInput: ``usage`` for a value out of bounds.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        problem, mend = first["msg"].removeprefix("Value error, "), "See the command's --help."
        if first["type"] == "string_pattern_mismatch":
            field = kind.model_fields.get(str(first["loc"][0]))
            problem, mend = (
                f"{first['input']!a} is not written as it must be",
                f"{field.description if field else ''} {mend}",
            )
        raise InvalidInput("usage", f"{name}: {problem}", mend.strip()) from None


def _parameter(name: str, field: FieldInfo, help: str | None) -> click.Parameter:
    cli = cli_of(field)
    kind, multiple = click_type(field.annotation)
    required = field.is_required() and not cli.ask
    default = None if field.default is PydanticUndefined else field.default
    default_option: dict[str, Any] = {} if required else {"default": default}
    if cli.argument:
        return click.Argument([name], type=kind, required=required, nargs=-1 if multiple else 1, **default_option)
    flag = cli.option or f"--{name.replace('_', '-')}"
    return click.Option(
        [flag, name],
        type=None if kind is click.BOOL else kind,
        is_flag=kind is click.BOOL,
        multiple=multiple,
        required=required,
        **default_option,
        show_default=default not in (None, (), False),
        help=help,
    )
