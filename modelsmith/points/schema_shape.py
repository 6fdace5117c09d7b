"""The shape of a rubric's JSON Schema: its keywords, where its references lead, and how far an answer can take it.

Everything that could make scoring fail, hang or differ is found here, before any answer is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from urllib.parse import unquote

from pydantic import JsonValue

from modelsmith.points.answers import MAX_DEPTH
from modelsmith.points.formats import FORMATS
from modelsmith.points.patterns import MAX_SIZE, size
from modelsmith.schema.errors import InvalidInput

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMAS = 2_000
"""Schemas inside a rubric's schema, itself included."""
MAX_SCHEMA_DEPTH = 32
"""Deepest nesting of a schema as JSON."""
MAX_STEPS = 160
"""Schemas one inside the other that one answer can be led through; each takes a few frames of Python's stack."""

_SAME_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})
_ONE_DEEPER = frozenset({"properties", "additionalProperties", "propertyNames", "items", "prefixItems", "contains"})
_HELD = frozenset({"$defs", "definitions"})
_BY_NAME = frozenset({"properties", "dependentSchemas", "$defs", "definitions"})
_BY_NUMBER = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
# fmt: off
_PLAIN = frozenset({
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "format", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains",
    "maxProperties", "minProperties", "required", "dependentRequired", "title", "description", "default", "examples",
    "deprecated", "readOnly", "writeOnly", "$comment", "$ref", "$anchor", "$schema",
})
# fmt: on
KEYWORDS = _SAME_PLACE | _ONE_DEEPER | _HELD | _PLAIN
"""What a rubric's schema may say. Left out of JSON Schema 2020-12 is what is not checked (``contentMediaType``), what
runs in Python's own regular expressions (``patternProperties``), and what can take exponential time or lead elsewhere
(``unevaluatedProperties``, ``$dynamicRef``, ``$id``)."""

Pointer = tuple[str, ...]


@dataclass(frozen=True)
class _Schema:
    """One schema inside the schema."""

    same_place: tuple[Pointer, ...]
    """Schemas that the same value must satisfy, a reference's target among them."""
    one_deeper: tuple[Pointer, ...]
    """Schemas for what the value holds."""


def require_small(schema: JsonValue) -> None:
    """Refuse a schema that is nested too deeply to be read safely.

    Raises:
        InvalidInput: ``bad-schema``.
    """
    level: list[JsonValue] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise refused(f"it is nested more than {MAX_SCHEMA_DEPTH} levels deep")


def references(schema: JsonValue) -> dict[str, JsonValue]:
    """The schema that each ``$ref`` means, once everything about the schema's shape holds. It is well-formed already.

    Raises:
        InvalidInput: ``bad-schema``, ``bad-pattern``.
    """
    positions = dict(islice(_positions((), schema), MAX_SCHEMAS + 1))
    if len(positions) > MAX_SCHEMAS:
        raise refused(f"it holds more than {MAX_SCHEMAS} schemas")
    steps = 0
    for pointer, subschema in positions.items():
        _require_known(pointer, subschema)
        steps += _steps(subschema)
        if steps > MAX_SIZE:
            raise refused("its patterns take too long to compile")
    anchors = _anchors(positions)
    targets: dict[str, Pointer] = {}
    for subschema in positions.values():
        ref = subschema.get("$ref") if isinstance(subschema, dict) else None
        if isinstance(ref, str) and ref not in targets:
            targets[ref] = _target(ref, positions, anchors)
    _require_short({pointer: _edges(pointer, subschema, targets) for pointer, subschema in positions.items()})
    return {ref: positions[pointer] for ref, pointer in targets.items()}


def pattern_steps(schema: JsonValue) -> int:
    """Steps of all patterns in a schema that `references` let through."""
    return sum(_steps(subschema) for _, subschema in _positions((), schema))


def _steps(schema: JsonValue) -> int:
    pattern = schema.get("pattern") if isinstance(schema, dict) else None
    return size(pattern) if isinstance(pattern, str) else 0


def refused(problem: str) -> InvalidInput:
    """The error that the schema cannot be used."""
    return InvalidInput(
        "bad-schema",
        f"A rubric's JSON Schema cannot be used: {problem}.",
        "Write the check's schema as one JSON Schema 2020-12 document without outside references.",
        problem=problem,
    )


def _positions(pointer: Pointer, schema: JsonValue) -> Iterator[tuple[Pointer, JsonValue]]:
    """Every place where a schema stands; literal values and names of properties are none."""
    yield pointer, schema
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        for below, inner in _inside(keyword, value):
            yield from _positions((*pointer, keyword, *below), inner)


def _inside(keyword: str, value: JsonValue) -> Iterator[tuple[Pointer, JsonValue]]:
    if keyword in _BY_NAME and isinstance(value, dict):
        yield from (((name,), inner) for name, inner in value.items())
    elif keyword in _BY_NUMBER and isinstance(value, list):
        yield from (((str(number),), inner) for number, inner in enumerate(value))
    elif keyword in _SAME_PLACE | _ONE_DEEPER:
        yield (), value


def _require_known(pointer: Pointer, schema: JsonValue) -> None:
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword not in KEYWORDS:
            near = get_close_matches(keyword, KEYWORDS, n=1, cutoff=0.8)
            suggestion = f"; did you mean {near[0]!r}?" if near else ""
            raise refused(f"the keyword {keyword[:60]!a} is not offered{suggestion}")
        if keyword == "$schema" and (pointer or value != DIALECT):
            raise refused(f"$schema names another dialect than {DIALECT}, or stands inside")
        if keyword == "format" and value not in FORMATS:
            near = get_close_matches(str(value), FORMATS, n=1)
            suggestion = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(FORMATS)}"
            raise refused(f"the format {str(value)[:60]!a} is not known; {suggestion}")


def _anchors(positions: Mapping[Pointer, JsonValue]) -> dict[str, Pointer]:
    anchors: dict[str, Pointer] = {}
    for pointer, subschema in positions.items():
        name = subschema.get("$anchor") if isinstance(subschema, dict) else None
        if isinstance(name, str) and anchors.setdefault(name, pointer) != pointer:
            raise refused(f"the $anchor {name[:60]!a} stands in it twice")
    return anchors


def _target(ref: str, positions: Mapping[Pointer, JsonValue], anchors: Mapping[str, Pointer]) -> Pointer:
    if not ref.startswith("#"):
        raise refused(f"$ref {ref[:100]!a} leads out of the schema")
    fragment = unquote(ref[1:])
    if fragment and not fragment.startswith("/"):
        pointer = anchors.get(fragment)
    else:
        pointer = tuple(part.replace("~1", "/").replace("~0", "~") for part in fragment.split("/")[1:])
    if pointer is None or pointer not in positions:
        raise refused(f"$ref {ref[:100]!a} leads to no schema")
    return pointer


def _edges(pointer: Pointer, schema: JsonValue, targets: Mapping[str, Pointer]) -> _Schema:
    keywords = schema if isinstance(schema, dict) else {}
    ref = keywords.get("$ref")
    near: dict[frozenset[str], tuple[Pointer, ...]] = {
        kind: tuple(
            (*pointer, keyword, *below)
            for keyword, value in keywords.items()
            if keyword in kind
            for below, _ in _inside(keyword, value)
        )
        for kind in (_SAME_PLACE, _ONE_DEEPER)
    }
    led = (targets[ref],) if isinstance(ref, str) else ()
    return _Schema(near[_SAME_PLACE] + led, near[_ONE_DEEPER])


def _require_short(schemas: Mapping[Pointer, _Schema]) -> None:
    """No reference leads back to itself without descending into the answer, and no answer leads too far."""
    try:
        order = list(TopologicalSorter({at: edges.same_place for at, edges in schemas.items()}).static_order())
    except CycleError:
        raise refused("a $ref leads back to itself without descending into the answer") from None
    deeper: dict[Pointer, int] = {}
    for _ in range(MAX_DEPTH + 1):
        longest: dict[Pointer, int] = {}
        for at in order:
            edges = schemas[at]
            below = [longest[near] for near in edges.same_place] + [deeper.get(far, 0) for far in edges.one_deeper]
            longest[at] = 1 + max(below, default=0)
        deeper = longest
    if deeper[()] > MAX_STEPS:
        raise refused(f"an answer could be led through more than {MAX_STEPS} schemas, one inside the other")
