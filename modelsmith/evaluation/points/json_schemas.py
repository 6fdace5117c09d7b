"""JSON Schema (draft 2020-12) as rubrics may use it: one document, no remote references, patterns in RE2.

`jsonschema` matches ``pattern`` with Python's backtracking engine, fetches remote references unless told otherwise,
and compares every pair of items for ``uniqueItems``; each would let a text stall or steer the evaluation. So
``pattern`` runs on RE2, ``uniqueItems`` on hashes, every reference must resolve inside the schema, and
``patternProperties`` is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from modelsmith.evaluation.points.patterns import found
from modelsmith.schema.errors import InvalidInput

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LITERALS = ("const", "default", "enum", "examples")
_NAMES = ("properties", "$defs", "definitions", "dependentSchemas")


def first_problem(schema: Mapping[str, JsonValue], answer: JsonValue) -> str:
    """Why the answer does not satisfy the schema, or an empty string.

    Raises:
        InvalidInput: ``bad-schema`` when the schema itself cannot be used.
    """
    validator = prepare(schema)
    try:
        error = next(iter(validator.iter_errors(answer)), None)
    except RecursionError:
        raise _refused("a $ref leads back to itself without descending into the answer") from None
    return "" if error is None else f"{error.json_path}: {error.message}"


def prepare(schema: Mapping[str, JsonValue]) -> Validator:
    """A validator for the schema.

    Raises:
        InvalidInput: ``bad-schema``.
    """
    return _prepared(json.dumps(schema))


@lru_cache(maxsize=64)
def _prepared(text: str) -> Validator:
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import extend
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        raise _refused(f"{error.json_path}: {error.message[:200]}") from None
    if schema.get("$schema", DIALECT) != DIALECT:
        raise _refused(f"$schema names another dialect than {DIALECT}")
    registry: Registry[Any] = Registry()
    resolver = registry.resolver_with_root(Resource.from_contents(schema, default_specification=DRAFT202012))
    for keyword, value in _keywords(schema):
        if keyword == "pattern" and isinstance(value, str):
            found(value, "")
        elif keyword in ("patternProperties", "$id"):
            raise _refused(f"{keyword} is not offered")
        elif keyword in ("$ref", "$dynamicRef") and isinstance(value, str):
            if not value.startswith("#"):
                raise _refused(f"{keyword} {value!r} leads out of the schema")
            try:
                resolver.lookup(value)
            except Unresolvable:
                raise _refused(f"{keyword} {value!r} leads nowhere") from None
    strict: type[Validator] = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique_items}
    )
    return strict(schema, registry=registry)


def _refused(problem: str) -> InvalidInput:
    return InvalidInput(
        "bad-schema",
        f"A rubric's JSON Schema cannot be used: {problem}.",
        "Write the check's schema as one JSON Schema 2020-12 document without outside references.",
    )


def _keywords(schema: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    """Every keyword in the schema with its value; names of properties and literal values are not keywords."""
    if isinstance(schema, dict):
        for keyword, value in schema.items():
            yield keyword, value
            if keyword in _NAMES and isinstance(value, dict):
                for named in value.values():
                    yield from _keywords(named)
            elif keyword not in _LITERALS:
                yield from _keywords(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _keywords(item)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and not found(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if wanted and validator.is_type(instance, "array") and len(set(map(_identity, instance))) != len(instance):
        yield ValidationError("the items are not all different")


def _identity(value: JsonValue) -> object:
    """A hashable stand-in that is equal exactly when the JSON values are."""
    if isinstance(value, bool) or value is None:
        return ("literal", str(value))
    if isinstance(value, dict):
        return ("object", frozenset((key, _identity(member)) for key, member in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(_identity, value)))
    return (isinstance(value, str), value)
