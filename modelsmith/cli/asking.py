"""What a command still needs to know: asked on a terminal, named as missing elsewhere."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from typing_extensions import override

from modelsmith.cli.output import say
from modelsmith.operations.contract import Cli, Request
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.docs import field_docs
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.system import require_text


def cli_of(field: FieldInfo) -> Cli:
    """How the field looks on the command line."""
    return next((item for item in field.metadata if isinstance(item, Cli)), Cli())


def asked_fields(kind: type[Request], names: Collection[str]) -> dict[str, FieldInfo]:
    """Fields that a person may be asked for and that were not given."""
    return {name: field for name, field in kind.model_fields.items() if cli_of(field).ask and name not in names}


def answers(
    kind: type[Request], fields: Mapping[str, FieldInfo], values: Mapping[str, Any], directory: Path, as_json: bool
) -> dict[str, Any]:
    """Answers of a person on the terminal, by field; empty without a person.

    What cannot stand is asked again where it was said, so a slip costs one line and not all of them.

    Raises:
        InvalidInput: ``usage`` where nobody can be asked and something is missing, every option of it named at once;
            what ``kind.check`` refuses of the words that were given beforehand.
    """
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        missing = [_flag(name, field) for name, field in fields.items() if field.is_required()]
        if missing:
            raise InvalidInput(
                "usage",
                f"Missing: {', '.join(missing)}",
                "Give each, or run the command on a terminal, which asks; --help says what each is.",
                missing=missing,
            )
        return {}
    workspace = Workspace.find(directory)
    answers_by_name: dict[str, Any] = {}
    docs = field_docs(kind)
    typed = {name: value for name, value in values.items() if name not in fields}
    kind.check(workspace, typed, "")
    for name, field in fields.items():
        offered = kind.offers(workspace, {**values, **answers_by_name}).get(name, ())

        def check(value: Any, further: bool, name: str = name) -> None:
            kind.check(workspace, {**typed, **answers_by_name, name: value}, name if further else "")

        answer = _answer(field, docs.get(name, ""), offered, check)
        if answer is not None:
            answers_by_name[name] = answer
    return answers_by_name


def agreed(question: str) -> bool:
    """Whether a person on the terminal says yes; without one, nobody did."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    say(f"{question} (yes/no)", error=True)
    return _line().lower() in ("y", "yes")


def _flag(name: str, field: FieldInfo) -> str:
    return cli_of(field).option or f"--{name.replace('_', '-')}"


def _answer(field: FieldInfo, help: str, offered: Sequence[str], check: Callable[[Any, bool], None]) -> Any:
    """One field's value, once nothing is wrong with it; None to leave it out."""
    kind, multiple = click_type(field.annotation)
    if isinstance(kind, click.Choice):
        offered = kind.choices
    hint = f" ({', '.join(offered)})" if offered else ""
    say(f"{help}{hint}", error=True)
    if multiple:
        say("One a line; an empty line ends.", error=True)
    values: list[Any] = []
    while True:
        line = _line()
        try:
            if not line and (values or not field.is_required()):
                check(tuple(values) if multiple else None, False)
                return tuple(values) if values else None
            value = kind.convert(line, None, None)
            check((*values, value) if multiple else value, multiple)
        except click.BadParameter as error:
            say(error.message, error=True)
            continue
        except InvalidInput as error:
            say(f"{error.message}  -> {error.mend}", error=True)
            continue
        if not multiple:
            return value
        values.append(value)


def _line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise click.Abort
    return require_text(line.strip())


class NotEmpty(click.ParamType[Any]):
    """A word of another type that says something.

    Nothing is not a name, path or revision: it comes of a variable that is not set, and would be read as "here" or as
    the default. Only where nothing is the default may it be given as well.
    """

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.kind, self.name = kind, kind.name

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "" and (param is None or param.default != ""):
            self.fail("it is empty; give a value, or leave it out.", param, ctx)
        return self.kind.convert(value, param, ctx)


def click_type(annotation: Any) -> tuple[click.ParamType[Any], bool]:
    """Click type of a field's annotation, and whether it repeats."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return click_type(next(part for part in get_args(annotation) if part is not type(None)))
    if origin is tuple:
        return click_type(get_args(annotation)[0])[0], True
    if origin is Literal:
        return click.Choice([str(value) for value in get_args(annotation)]), False
    simple: dict[Any, click.ParamType[Any]] = {
        bool: click.BOOL,
        int: click.INT,
        float: click.FLOAT,
        Path: NotEmpty(click.Path(path_type=Path)),
    }
    return simple.get(annotation, NotEmpty(click.STRING)), False
