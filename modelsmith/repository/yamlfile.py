"""Governed files as typed values: every mistake of a file at once, each with file, line, field and mend."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

from modelsmith.repository.document import (
    MAX_PROBLEMS,
    MORE_PROBLEMS,
    Document,
    Location,
    Place,
    Problem,
    Unreadable,
    dotted,
)
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.schema.cluster import STORE
from modelsmith.schema.docs import field_docs
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plaintext import described, first_unwelcome
from modelsmith.schema.source import MODEL_URI

__all__ = ["Problem", "check", "find_json_problems", "find_problems", "invalid", "parse_yaml"]

T = TypeVar("T", bound=BaseModel)


def parse_yaml(path: str, data: bytes, model: type[T]) -> T:
    """Read a governed YAML file; ``path`` is used in messages only.

    Raises:
        InvalidInput: ``invalid-file`` with ``problems`` in its details, all of them at once.
    """
    value, problems = find_problems(path, data, model)
    if value is None:
        raise invalid(problems)
    return value


def find_problems(path: str, data: bytes, model: type[T]) -> tuple[T | None, list[Problem]]:
    """The typed value of a YAML file, or None and what is wrong with it."""
    try:
        return check(read_yaml(path, data), model)
    except Unreadable as error:
        return None, with_model_problems(error, model)


def find_json_problems(
    path: str, data: bytes, model: type[T], line: int | None = None
) -> tuple[T | None, list[Problem]]:
    """The typed value of JSON that a machine wrote, or None and what is wrong with it."""
    try:
        return check(read_json(path, data, line, first_unwelcome), model)
    except Unreadable as error:
        return None, error.problems


def check(document: Document, model: type[T]) -> tuple[T | None, list[Problem]]:
    """Validate data against a model; aliased fields are named as the user wrote them."""
    try:
        return model.model_validate_json(json.dumps(document.data)), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    one: dict[tuple[str, int | None, str], Problem] = {}
    for problem in filter(None, (_problem(document, model, details) for details in errors)):
        key = (problem.file, problem.line, problem.field)
        if len(one) == MAX_PROBLEMS and key not in one:
            return None, [*sorted(one.values(), key=sort_key), Problem(*document.place(()), "", MORE_PROBLEMS, _FIRST)]
        other = one.get(key)
        mends = problem.mend if other is None else f"{other.mend} Or: {problem.mend}"
        one[key] = replace(other or problem, mend=mends)
    return None, sorted(one.values(), key=sort_key)


def with_model_problems(error: Unreadable, model: type[BaseModel]) -> list[Problem]:
    """What is wrong with a file as text, and with every field that could be read all the same."""
    if error.document is None:
        return error.problems
    unread = {problem.field for problem in error.problems}
    more = [problem for problem in check(error.document, model)[1] if not _within(problem.field, unread)]
    return sorted([*error.problems, *more], key=sort_key)


def _within(field: str, fields: Set[str]) -> bool:
    """Whether the field, or one that it lies in, is among the others."""
    lengths = {len(other) for other in fields if len(other) < len(field) and field[len(other)] in ".["}
    return field in fields or any(field[:length] in fields for length in lengths)


def invalid(problems: Sequence[Problem]) -> InvalidInput:
    """The error that lists every problem in ``details["problems"]``."""
    first, more = problems[0], len(problems) - 1
    where = f"{first.file}:{first.line}" if first.line else first.file
    return InvalidInput(
        "invalid-file",
        f"{where}: {f'{first.field}: ' if first.field else ''}{first.message}"
        + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""),
        first.mend,
        problems=[asdict(problem) for problem in problems],
    )


UNSHOWN = frozenset({"url", "key_env"})
"""Fields whose wrong value may be a secret: no message repeats it."""


_FIRST = "Mend those before it first."
_LONGEST_NAME = 64
"""No field's name is longer, so that nothing longer is a misspelt one."""


def sort_key(problem: Problem) -> tuple[str, int, str, str]:
    """By file, then line, then field."""
    return problem.file, problem.line or 0, problem.field, problem.message


def _problem(document: Document, model: type[BaseModel], details: ErrorDetails) -> Problem | None:
    """One of pydantic's errors in the user's words; None for a list that is only short of its faulty items."""
    location = _written(document.data, details)
    kind = details["type"]
    if kind == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
        return None
    owners = _models_at(model, location[:-1])
    name = str(location[-1]) if location else ""
    known = {key: words for owner in owners for key, words in _fields(owner).items()}
    if kind == "missing":
        place: Place = document.place(location[:-1])
        return Problem(*place, dotted(location), f"'{name}' is missing", _sentence("Add it", known.get(name)))
    if kind == "extra_forbidden":
        mend = _nearest_field(name, known)
        return Problem(*document.key_place(location), dotted(location), f"there is no field '{name}'", mend)
    place = document.key_place(location) if "[key]" in details["loc"] else document.place(location)
    message, mend = _words(details, known.get(name))
    if name in UNSHOWN:
        message = message.replace(_shown(details.get("input")), "what stands there")
    return Problem(*place, dotted(location), message, mend)


def _nearest_field(name: str, known: Mapping[str, str]) -> str:
    """The mend for a field that does not exist."""
    near = get_close_matches(name, known, n=1, cutoff=0.6) if len(name) <= _LONGEST_NAME else []
    if not near:
        return f"Remove it; known here: {', '.join(known) or 'nothing'}."
    odd = ", ".join(described(letter) for letter in sorted(set(name)) if not letter.isascii())
    return f"Did you mean '{near[0]}'?" + (f" What stands here has {odd}." if odd else "")


def _written(data: Any, details: ErrorDetails) -> Location:
    """Pydantic's location without the names of union branches and validators, which nobody wrote."""
    location: list[str | int] = []
    for number, part in enumerate(details["loc"]):
        here: dict[Any, Any] = (
            data if isinstance(data, dict) else dict(enumerate(data if isinstance(data, list) else ()))
        )
        if part in here:
            data = here[part]
        elif details["type"] != "missing" or number < len(details["loc"]) - 1:
            continue
        location.append(part)
    if details["type"].startswith("union_tag") and isinstance(data, dict) and "type" in data:
        location.append("type")
    return tuple(location)


def _models_at(model: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """Models whose fields may stand at a location; several where a union leaves it open."""
    models = [model] if not issubclass(model, RootModel) else _models_in(model.model_fields["root"].annotation)
    for part in location:
        if isinstance(part, str):
            inner = [
                found
                for owner in models
                for name, field in owner.model_fields.items()
                if part == (field.alias or name)
                for found in _models_in(field.annotation)
            ]
            models = inner or models
    return list(dict.fromkeys(models))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _fields(model: type[BaseModel]) -> dict[str, str]:
    """Field names as written, with the first sentence of their documentation."""
    docs = field_docs(model)
    return {
        field.alias or name: docs.get(name, "").split("\n\n")[0].replace("\n", " ").replace("``", "'")
        for name, field in model.model_fields.items()
    }


_PATTERNS = {
    r"^https?://[^/?#\s@]+(/[^?#\s]*)?$": "Write https://host/v1, without user, password or query.",
    MODEL_URI: "Write package://<python package>/<file>, file://<path> or hf://<org>/<name>@<revision>.",
    STORE: "Write an absolute folder, or ~/<folder>.",
    r"^[A-Z][A-Z0-9_]*$": "Write the name of an environment variable, in capitals; never a key itself.",
    r"^sha256:[0-9a-f]{64}$": "Write 'sha256:' and 64 hex digits.",
    r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$": (
        "Use lower-case letters a to z, digits, dot, hyphen or underscore, at most 64 characters, beginning and ending "
        "with a letter or digit."
    ),
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "Use letters, digits, dot, hyphen or underscore, at most 63 characters.",
    r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$": "Write three numbers like 1.2.0.",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{7,127}$": "Use 8 to 128 letters, digits, dots, hyphens or underscores.",
    r"^[a-z0-9._-]+/[a-z0-9._-]+$": "Write <domain>/<set>, as the folders under evals/ are named.",
}

_EXPECTED = {
    "string_type": ("text is expected", "Put the value in quotes."),
    "bool_type": ("true or false is expected", "Write true or false."),
    "int_type": ("a whole number is expected", "Write a whole number without quotes."),
    "int_from_float": ("a whole number is expected", "Write a whole number."),
    "float_type": ("a number is expected", "Write a number without quotes."),
    "tuple_type": ("a list is expected", "Write one '- ' line for each item, or [a, b]."),
    "list_type": ("a list is expected", "Write one '- ' line for each item, or [a, b]."),
    "dict_type": ("a mapping is expected", "Write 'name: value' lines below it, indented."),
    "model_type": ("a mapping is expected", "Write 'field: value' lines below it, indented."),
    "model_attributes_type": ("a mapping is expected", "Write 'field: value' lines below it, indented."),
    "datetime_type": ("a time is expected", "Write it as 2026-01-31T09:00:00Z."),
    "datetime_parsing": ("a time is expected", "Write it as 2026-01-31T09:00:00Z."),
    "datetime_from_date_parsing": ("a time is expected", "Write it as 2026-01-31T09:00:00Z."),
    "timezone_aware": ("a time with zone is expected", "Write it as 2026-01-31T09:00:00Z."),
}

_BOUNDS: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
    "greater_than": lambda c: (f"must be greater than {c['gt']}", f"Write a number above {c['gt']}."),
    "greater_than_equal": lambda c: (f"must be at least {c['ge']}", f"Write {c['ge']} or more."),
    "less_than": lambda c: (f"must be less than {c['lt']}", f"Write a number below {c['lt']}."),
    "less_than_equal": lambda c: (f"must be at most {c['le']}", f"Write {c['le']} or less."),
    "too_short": lambda c: (f"needs {c['min_length']} or more items", "Add to the list."),
    "string_too_short": lambda c: (
        f"needs {c['min_length']} or more characters", f"Write {c['min_length']} or more characters."
    ),
    "string_too_long": lambda c: (f"has more than {c['max_length']} characters", "Shorten it."),
    "literal_error": lambda c: (f"must be {c['expected']}", f"Write {c['expected']}."),
    "union_tag_not_found": lambda c: (f"{c['discriminator']} is missing", f"Add {c['discriminator']}: see the schema."),
    "union_tag_invalid": lambda c: (
        f"there is no {c['discriminator'].strip(chr(39))} '{c['tag']}'", f"Write one of {c['expected_tags']}."
    ),
    "string_pattern_mismatch": lambda c: (
        "is not written as required", _PATTERNS.get(c["pattern"], f"Make it match {c['pattern']}.")
    ),
}  # fmt: skip


def _words(details: ErrorDetails, documentation: str | None) -> tuple[str, str]:
    """Message and mend for one of pydantic's errors."""
    kind, value = details["type"], details.get("input")
    if kind in _EXPECTED:
        expected, mend = _EXPECTED[kind]
        return f"{expected}, not {_shown(value)}", mend
    if kind in _BOUNDS:
        message, mend = _BOUNDS[kind](details.get("ctx", {}))
        return f"{_shown(value)} {message}" if not kind.startswith("union_tag") else message, mend
    return details["msg"][:1].lower() + details["msg"][1:], _sentence("Correct it", documentation)


def _shown(value: Any) -> str:
    """A value as a short word or two."""
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}...{text[-1]}"


def _sentence(mend: str, documentation: str | None) -> str:
    return f"{mend}: {documentation}" if documentation else f"{mend}."
