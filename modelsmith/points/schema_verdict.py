"""Whether a value satisfies a JSON Schema, and nothing more: functions made of the schema once, for rewards.

`json_schemas.first_problem` says why a value does not, by `jsonschema`, and decides every eval. A reward needs no why,
and asks for many thousand verdicts in a training; `tests/points` holds both against each other, on schemas of every
keyword that is known here. What a schema says beyond that (``$ref``) is left to the library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from pydantic import JsonValue

from modelsmith.points.formats import FORMATS
from modelsmith.points.patterns import matches

Verdict = Callable[[Any], bool]
_SAYS_NOTHING = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$anchor"}
) | {"$defs", "definitions"}
_BESIDE_OTHERS = frozenset({"then", "else", "minContains", "maxContains"})
"""Read by the keyword that they stand beside; alone they say nothing."""


def verdict_of(schema: JsonValue) -> Verdict | None:
    """The schema as a function, which is as `json_schemas.prepare` has made it; None where it says more than is known.

    >>> verdict_of({"type": "object", "required": ["hold"]})({"hold": 1})
    True
    """
    try:
        return _compiled(schema)
    except _UnknownKeywordError:
        return None


def identity(value: JsonValue) -> object:
    """A hashable stand-in that is equal exactly when the JSON values are."""
    if isinstance(value, bool) or value is None:
        return ("literal", str(value))
    if isinstance(value, dict):
        return ("object", frozenset((key, identity(member)) for key, member in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(identity, value)))
    return (isinstance(value, str), value)


def is_multiple(number: float, step: float) -> bool:
    """Whether a number is a multiple of another one, as both are written in decimals.

    >>> is_multiple(0.3, 0.1), is_multiple(0.35, 0.1)
    (True, False)
    """
    return (Fraction(repr(number)) / Fraction(repr(step))).denominator == 1


class _UnknownKeywordError(Exception):
    """A keyword that is not known here."""


def _compiled(schema: JsonValue) -> Verdict:
    if not isinstance(schema, dict):
        return lambda _: bool(schema)
    checks = []
    for keyword, argument in schema.items():
        if keyword in _SAYS_NOTHING or keyword in _BESIDE_OTHERS:
            continue
        if keyword not in _KEYWORDS:
            raise _UnknownKeywordError(keyword)
        checks.append(_KEYWORDS[keyword](argument, schema))
    if len(checks) == 1:
        return checks[0]

    def all_hold(value: Any) -> bool:
        for check in checks:  # noqa: SIM110  a generator costs more than most checks
            if not check(value):
                return False
        return True

    return all_hold


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


_TYPES: Mapping[str, Verdict] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": _is_whole,
}


def _type(argument: Any, _: Any) -> Verdict:
    if isinstance(argument, str):
        return _TYPES[argument]
    kinds = [_TYPES[name] for name in argument]
    return lambda value: any(kind(value) for kind in kinds)


def _enum(argument: Any, _: Any) -> Verdict:
    if all(isinstance(item, str) for item in argument):
        words = frozenset(argument)
        return lambda value: isinstance(value, str) and value in words
    identities = frozenset(map(identity, argument))
    return lambda value: identity(value) in identities


def _only(kind: type, holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Verdict]:
    """A keyword that says something of values of one kind."""
    return lambda argument, _: lambda value: not isinstance(value, kind) or holds(value, argument)


def _of_numbers(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Verdict]:
    return lambda argument, _: lambda value: not _is_number(value) or holds(value, argument)


def _properties(argument: Any, _: Any) -> Verdict:
    members = [(name, _compiled(schema)) for name, schema in argument.items()]

    def holds(value: Any) -> bool:
        if isinstance(value, dict):
            for name, verdict in members:
                if name in value and not verdict(value[name]):
                    return False
        return True

    return holds


def _additional(argument: Any, schema: Any) -> Verdict:
    named, verdict = frozenset(schema.get("properties", ())), _compiled(argument)
    return lambda value: (
        not isinstance(value, dict)
        or value.keys() <= named
        or all(verdict(member) for name, member in value.items() if name not in named)
    )


def _items(argument: Any, schema: Any) -> Verdict:
    first, verdict = len(schema.get("prefixItems", ())), _compiled(argument)
    return lambda value: not isinstance(value, list) or all(map(verdict, value[first:] if first else value))


def _prefix(argument: Any, _: Any) -> Verdict:
    verdicts = list(map(_compiled, argument))
    return lambda value: (
        not isinstance(value, list) or all(verdict(item) for verdict, item in zip(verdicts, value, strict=False))
    )


def _contains(argument: Any, schema: Any) -> Verdict:
    verdict, least, most = _compiled(argument), schema.get("minContains", 1), schema.get("maxContains")
    if least == 1 and most is None:
        return lambda value: not isinstance(value, list) or any(map(verdict, value))
    return lambda value: (
        not isinstance(value, list) or least <= sum(map(verdict, value)) <= (len(value) if most is None else most)
    )


def _any_of(argument: Any, _: Any) -> Verdict:
    verdicts = list(map(_compiled, argument))

    def holds(value: Any) -> bool:
        for verdict in verdicts:  # noqa: SIM110
            if verdict(value):
                return True
        return False

    return holds


def _all_of(argument: Any, _: Any) -> Verdict:
    verdicts = list(map(_compiled, argument))
    return lambda value: all(verdict(value) for verdict in verdicts)


def _one_of(argument: Any, _: Any) -> Verdict:
    verdicts = list(map(_compiled, argument))
    return lambda value: sum(verdict(value) for verdict in verdicts) == 1


def _not(argument: Any, _: Any) -> Verdict:
    verdict = _compiled(argument)
    return lambda value: not verdict(value)


def _if(argument: Any, schema: Any) -> Verdict:
    condition, then, other = (
        _compiled(argument),
        _compiled(schema.get("then", True)),
        _compiled(schema.get("else", True)),
    )
    return lambda value: then(value) if condition(value) else other(value)


def _names(argument: Any, _: Any) -> Verdict:
    verdict = _compiled(argument)
    return lambda value: not isinstance(value, dict) or all(map(verdict, value))


def _dependent_schemas(argument: Any, _: Any) -> Verdict:
    members = [(name, _compiled(schema)) for name, schema in argument.items()]
    return lambda value: (
        not isinstance(value, dict) or all(verdict(value) for name, verdict in members if name in value)
    )


_KEYWORDS: Mapping[str, Callable[[Any, Any], Verdict]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda argument, schema: _enum([argument], schema),
    "minimum": _of_numbers(lambda value, limit: value >= limit),
    "maximum": _of_numbers(lambda value, limit: value <= limit),
    "exclusiveMinimum": _of_numbers(lambda value, limit: value > limit),
    "exclusiveMaximum": _of_numbers(lambda value, limit: value < limit),
    "multipleOf": _of_numbers(is_multiple),
    "minLength": _only(str, lambda value, limit: len(value) >= limit),
    "maxLength": _only(str, lambda value, limit: len(value) <= limit),
    "pattern": _only(str, lambda value, pattern: matches(pattern, value)),
    "format": _only(str, lambda value, name: FORMATS[name](value)),
    "minItems": _only(list, lambda value, limit: len(value) >= limit),
    "maxItems": _only(list, lambda value, limit: len(value) <= limit),
    "uniqueItems": _only(list, lambda value, unique: not unique or len(set(map(identity, value))) == len(value)),
    "minProperties": _only(dict, lambda value, limit: len(value) >= limit),
    "maxProperties": _only(dict, lambda value, limit: len(value) <= limit),
    "required": _only(dict, lambda value, names: all(name in value for name in names)),
    "dependentRequired": _only(
        dict,
        lambda value, argument: all(needed in value for name in argument if name in value for needed in argument[name]),
    ),
    "dependentSchemas": _dependent_schemas,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "items": _items,
    "prefixItems": _prefix,
    "contains": _contains,
    "anyOf": _any_of,
    "allOf": _all_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
}
