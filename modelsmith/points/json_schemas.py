"""JSON Schema (draft 2020-12) as rubrics may use it: one document, no remote references, patterns in RE2.

`jsonschema` matches ``pattern`` with Python's backtracking engine, follows a reference to wherever it leads, evaluates
what is referred to twice twice, divides decimals in binary, does not check ``format``, and compares every pair of
items for ``uniqueItems``; each would let a text stall the evaluation, or let a right answer fail. So ``pattern`` and
``format`` run on RE2, ``multipleOf`` in exact fractions, ``uniqueItems`` on hashes, and a referred schema is
evaluated once for each value: the time is at most the size of the schema times the size of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import JsonValue

from modelsmith.points.answers import composed
from modelsmith.points.formats import FORMATS
from modelsmith.points.patterns import matches
from modelsmith.points.schema_shape import references, refused, require_small
from modelsmith.points.schema_verdict import Verdict, identity, is_multiple, verdict_of

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_known: ContextVar[dict[tuple[str, int], str | None]] = ContextVar("known")
"""Of the answer that is being checked: reference and value -> its first problem."""


def first_problem(schema: Mapping[str, JsonValue], answer: JsonValue) -> str:
    """Why the answer does not satisfy the schema, or an empty string.

    >>> first_problem({"type": "object", "required": ["cause"]}, {})
    "$: 'cause' is a required property"

    Raises:
        InvalidInput: ``bad-schema`` or ``bad-pattern`` when the schema itself cannot be used.
    """
    validator = prepare(schema)
    before = _known.set({})
    try:
        error = next(iter(validator.iter_errors(answer)), None)
    finally:
        _known.reset(before)
    return "" if error is None else f"{error.json_path}: {error.message}"


def satisfies(schema: Mapping[str, JsonValue], answer: JsonValue) -> bool:
    """Whether `first_problem` finds none, without a word of why, and so in a small part of the time.

    Raises:
        InvalidInput: as `first_problem`.
    """
    verdict = _quick(_Same(schema))
    return not first_problem(schema, answer) if verdict is None else verdict(answer)


def prepare(schema: Mapping[str, JsonValue]) -> Validator:
    """A validator for the schema.

    Raises:
        InvalidInput: ``bad-schema``, ``bad-pattern``.
    """
    return _known_as(_Same(schema))


class _Same(NamedTuple):
    """A schema as an object: what is checked again and again is not written out each time to be recognised.

    Schemas are values: nothing changes one. The entry keeps its schema alive, so no other ever has its id.
    """

    schema: Mapping[str, JsonValue]

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.schema is other.schema


@lru_cache(maxsize=64)
def _known_as(same: _Same) -> Validator:
    return _prepared(json.dumps(same.schema))


@lru_cache(maxsize=64)
def _quick(same: _Same) -> Verdict | None:
    return verdict_of(_known_as(same).schema)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _prepared(text: str) -> Validator:
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import extend

    schema_given: dict[str, JsonValue] = json.loads(text)
    require_small(schema_given)
    try:
        schema = composed(schema_given)
        assert isinstance(schema, dict)
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        raise refused(f"{error.json_path}: {error.message[:200]}") from None
    except ValueError as error:
        raise refused(str(error)) from None
    targets = references(schema)
    schema.pop("$schema", None)  # else the library goes on with its own checks where a reference leads back to the top
    strict: type[Validator] = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator,
        {
            "$ref": _referring(targets),
            "pattern": _pattern,
            "format": _format,
            "multipleOf": _multiple_of,
            "uniqueItems": _unique_items,
        },
    )
    return strict(schema)


def _referring(targets: Mapping[str, JsonValue]) -> Callable[[Any, str, Any, Any], Iterator[Any]]:
    """The keyword ``$ref``: each of its targets is evaluated once for each value of an answer."""
    from jsonschema.exceptions import ValidationError

    def keyword(validator: Any, ref: str, instance: Any, schema: Any) -> Iterator[Any]:
        results = _known.get()
        key = (ref, id(instance))
        if key not in results:
            error = next(validator.descend(instance, targets[ref]), None)
            results[key] = None if error is None else error.message
            if error is not None:
                yield error
        elif (message := results[key]) is not None:
            yield ValidationError(message)

    return keyword


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and not matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _format(validator: Any, name: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and not FORMATS[name](instance):
        yield ValidationError(f"{instance!r} is no {name}")


def _multiple_of(validator: Any, step: float, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "number") and not is_multiple(instance, step):
        yield ValidationError(f"{instance!r} is not a multiple of {step!r}")


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if unique and validator.is_type(instance, "array") and len(set(map(identity, instance))) != len(instance):
        yield ValidationError("the items are not all different")
