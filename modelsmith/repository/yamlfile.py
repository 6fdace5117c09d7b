"""Governed files as typed values: every mistake of a file at once, each with file, line, field and mend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, replace
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

from modelsmith.repository.document import (
    MAX_PROBLEMS,
    MORE_PROBLEMS,
    UNSHOWN,
    Document,
    Location,
    Place,
    Problem,
    Unreadable,
    dotted,
    nearest,
)
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.type_errors import explain, value_text, with_doc
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.schema.docs import field_docs
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plaintext import described, first_unwelcome

__all__ = ["Problem", "find_json_problems", "find_problems", "invalid", "parse_yaml", "validate_document"]

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
        return validate_document(read_yaml(path, data), model)
    except Unreadable as error:
        return None, with_model_problems(error, model)


def find_json_problems(
    path: str, data: bytes, model: type[T], line: int | None = None
) -> tuple[T | None, list[Problem]]:
    """The typed value of JSON that a machine wrote, or None and what is wrong with it."""
    try:
        return validate_document(read_json(path, data, line, first_unwelcome), model)
    except Unreadable as error:
        return None, error.problems


def validate_document(document: Document, model: type[T]) -> tuple[T | None, list[Problem]]:
    """Validate data against a model; aliased fields are named as the user wrote them."""
    try:
        return model.model_validate_json(json.dumps(document.data)), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    errors = _by_cause(document.data, errors)
    problems: dict[tuple[str, int | None, str], Problem] = {}
    for problem in filter(None, (_problem(document, model, details) for details in errors)):
        key = (problem.file, problem.line, problem.field)
        if len(problems) == MAX_PROBLEMS and key not in problems:
            return None, [
                *sorted(problems.values(), key=sort_key),
                Problem(*document.place(()), "", MORE_PROBLEMS, _FIRST),
            ]
        other = problems.get(key)
        mends = problem.mend if other is None else f"{other.mend} Or: {problem.mend}"
        problems[key] = replace(other or problem, mend=mends)
    return None, sorted(problems.values(), key=sort_key)


def _by_cause(data: Any, errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """One error for each cause: a misspelt field is not missing too, and one that is not indented is not unknown."""
    if len(errors) > MAX_PROBLEMS:
        return errors
    places = [_location_of(data, error) for error in errors]
    unknown = [at for at, error in zip(places, errors, strict=True) if error["type"] == "extra_forbidden"]
    empty = {at for at, error in zip(places, errors, strict=True) if error["input"] is None}
    outside = {at: before for at in unknown if (before := _field_before(data, at)) in empty}
    misspelt = {(*at[:-1], near) for at in unknown if (near := nearest(str(at[-1]), _missing(at[:-1], places, errors)))}
    regrouped: list[ErrorDetails] = []
    for at, error in zip(places, errors, strict=True):
        if at in outside:
            regrouped.append(error | {"type": "not_indented", "ctx": {"field": outside[at][-1]}})
        elif not (at in outside.values() or (error["type"] == "missing" and at in misspelt)):
            regrouped.append(error)
    return regrouped


def _missing(folder: Location, places: Sequence[Location], errors: Sequence[ErrorDetails]) -> list[str]:
    return [
        str(at[-1])
        for at, error in zip(places, errors, strict=True)
        if error["type"] == "missing" and at[:-1] == folder
    ]


def _field_before(data: Any, at: Location) -> Location | None:
    """The field that stands before this one in its mapping."""
    for part in at[:-1]:
        data = data[part]
    names = list(data)
    number = names.index(at[-1])
    return (*at[:-1], names[number - 1]) if number else None


def with_model_problems(error: Unreadable, model: type[BaseModel]) -> list[Problem]:
    """What is wrong with a file as text, and with every field that could be read all the same."""
    if error.document is None:
        return error.problems
    unread = {problem.field for problem in error.problems}
    lines = {problem.line for problem in error.problems if not problem.field}
    added = [
        problem
        for problem in validate_document(error.document, model)[1]
        if not _within(problem.field, unread) and problem.line not in lines
    ]
    return sorted([*error.problems, *added], key=sort_key)


def _within(field: str, fields: Set[str]) -> bool:
    """Whether the field, or one that it lies in, is among the others."""
    lengths = {len(other) for other in fields if len(other) < len(field) and field[len(other)] in ".["}
    return field in fields or any(field[:length] in fields for length in lengths)


def invalid(problems: Sequence[Problem]) -> InvalidInput:
    """The error that lists every problem in ``details["problems"]``."""
    first, rest = problems[0], len(problems) - 1
    where = f"{first.file}:{first.line}" if first.line else first.file
    return InvalidInput(
        "invalid-file",
        f"{where}: {f'{first.field}: ' if first.field else ''}{first.message}"
        + (f" (and {rest} more problem{'s' if rest > 1 else ''})" if rest else ""),
        first.mend,
        problems=[asdict(problem) for problem in problems],
    )


_FIRST = "Mend those before it first."


def sort_key(problem: Problem) -> tuple[str, int, str, str]:
    """By file, then line, then field."""
    return problem.file, problem.line or 0, problem.field, problem.message


def _problem(document: Document, model: type[BaseModel], details: ErrorDetails) -> Problem | None:
    """One of pydantic's errors in the user's words; None for a list that is only short of its faulty items."""
    location = _location_of(document.data, details)
    kind = details["type"]
    if kind == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
        return None
    owners = _models_at(model, location[:-1])
    name = str(location[-1]) if location else ""
    docs = {key: words for owner in owners for key, words in _fields(owner).items()}
    if kind == "missing":
        place: Place = document.place(location[:-1])
        return Problem(*place, dotted(location), f"'{name}' is missing", with_doc("Add it", docs.get(name)))
    if kind == "not_indented":
        words = f"'{name}' belongs to '{details['ctx']['field']}' and is not indented"
        return Problem(*document.key_place(location), dotted(location), words, "Indent it by two spaces.")
    if kind == "extra_forbidden":
        mend = _unknown(document, owners, location)
        return Problem(*document.key_place(location), dotted(location), f"there is no field '{name}'", mend)
    place = document.key_place(location) if "[key]" in details["loc"] else document.place(location)
    inner = [field_name for owner in _models_at(model, location) for field_name in _fields(owner)]
    field = next(
        (owner.model_fields[field_name] for owner in owners for field_name in owner.model_fields if field_name == name),
        None,
    )
    message, mend = explain(details, field, docs.get(name), inner)
    if name in UNSHOWN:
        message, mend = (
            text.replace(value_text(details.get("input")), "what stands there") for text in (message, mend)
        )
    return Problem(*place, dotted(location), message, mend)


def _unknown(document: Document, owners: Sequence[type[BaseModel]], location: Location) -> str:
    """The mend for a field that does not exist here, though others of a union may have it."""
    around: Any = document.data
    for part in location[:-1]:
        around = around[part]
    name, tags = str(location[-1]), {owner: tag for owner in owners if (tag := _tag(owner))}
    others = [owner for owner, tag in tags.items() if around.get(tag.field, tag.default) != tag.word]
    having = sorted({tags[owner].word for owner in others if name in _fields(owner)})
    if having and len(others) < len(tags):
        return f"Remove it, or write {tags[others[0]].field}: {' or '.join(having)}, which it belongs to."
    return _nearest_field(name, {key: "" for owner in owners if owner not in others for key in _fields(owner)})


class _Tag(NamedTuple):
    """The field that tells a model from others of its union."""

    field: str
    word: str
    default: Any


def _tag(model: type[BaseModel]) -> _Tag | None:
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and len(words := get_args(field.annotation)) == 1:
            return _Tag(field.alias or name, str(words[0]), field.default)
    return None


def _nearest_field(name: str, docs: Mapping[str, str]) -> str:
    """The mend for a field that does not exist."""
    near = nearest(name, docs)
    if near is None:
        return f"Remove it; known here: {', '.join(docs) or 'nothing'}."
    odd = ", ".join(described(letter) for letter in sorted(set(name)) if not letter.isascii())
    return f"Did you mean '{near}'?" + (f" What stands here has {odd}." if odd else "")


def _location_of(data: Any, details: ErrorDetails) -> Location:
    """Pydantic's location without the names of union branches and validators, which nobody wrote."""
    location: list[str | int] = []
    for number, part in enumerate(details["loc"]):
        by_part: dict[Any, Any] = (
            data if isinstance(data, dict) else dict(enumerate(data if isinstance(data, list) else ()))
        )
        if part in by_part:
            data = by_part[part]
        elif details["type"] != "missing" or number < len(details["loc"]) - 1:
            continue
        location.append(part)
    if details["type"].startswith("union_tag") and isinstance(data, dict):
        tag = str(details["ctx"]["discriminator"]).strip("'")
        location += [tag] if tag in data else []
    return tuple(location)


def _models_at(model: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """Models whose fields may stand at a location; several where a union leaves it open."""
    models = [model] if not issubclass(model, RootModel) else _models_in(model.model_fields["root"].annotation)
    for part in location:
        if isinstance(part, str):
            inner = [
                model
                for owner in models
                for name, field in owner.model_fields.items()
                if part == (field.alias or name)
                for model in _models_in(field.annotation)
            ]
            models = inner or models
    return list(dict.fromkeys(models))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _fields(model: type[BaseModel]) -> dict[str, str]:
    """Field names as written, with the first sentence of their documentation."""
    docs = field_docs(model)
    return {
        field.alias or name: docs.get(name, "").split("\n\n")[0].replace("\n", " ").replace("``", "'")
        for name, field in model.model_fields.items()
    }
