"""Which kinds of JSON may stand at a place, by a JSON Schema as pydantic makes them. Pure; nothing is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]
ANYTHING: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
NUMBERS: Final = frozenset({"integer", "number"})
_DEEPEST: Final = 50
"""Schemas within each other that are looked into; one that names itself says nothing new below."""


def kinds_at(schema: Schema, path: Sequence[str]) -> frozenset[str]:
    """Kinds of JSON that a value may hold at a path of names and positions; none where the schema has no such place.

    ``null`` is among them where something on the way may be missing.
    """
    places, missing = [schema], False
    for part in path:
        missing |= any(_may_lack(place, part, schema) for place in places)
        places = [inner for place in places for inner in _inside(place, part, schema)]
    kinds = frozenset(kind for place in places for kind in _kinds(place, schema))
    return kinds | {"null"} if kinds and missing else kinds


def kind_of(value: Any) -> str:
    """Kind of a JSON value."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", type(None): "null"}
    return names.get(type(value), "array")


def takes(field: frozenset[str], kinds: frozenset[str]) -> bool:
    """Whether a place of some kinds takes whatever another may give; null counts as nothing given."""
    wide = field | {"integer"} if "number" in field else field
    return bool(kinds) and kinds - {"null"} <= wide


def value_at(data: Any, path: Sequence[str]) -> Any:
    """What stands at a path in JSON data, by its keys and positions; None where nothing does."""
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


def _alternatives(schema: Schema, root: Schema, depth: int = 0) -> Iterator[Schema]:
    """The schema without references and choices: each of what it may be."""
    if depth > _DEEPEST:
        return
    if "$ref" in schema:
        yield from _alternatives(root["$defs"][schema["$ref"].rpartition("/")[2]], root, depth + 1)
        return
    among = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    for branch in among:
        yield from _alternatives(branch, root, depth + 1)
    if not among:
        yield schema


def _kinds(schema: Schema, root: Schema) -> Iterator[str]:
    for alternative in _alternatives(schema, root):
        if "const" in alternative or "enum" in alternative:
            yield from map(kind_of, alternative.get("enum", [alternative.get("const")]))
        elif "type" in alternative:
            yield alternative["type"]
        else:
            yield from ANYTHING


def _may_lack(schema: Schema, part: str, root: Schema) -> bool:
    return any(part not in alternative.get("properties", {}) for alternative in _alternatives(schema, root))


def _inside(schema: Schema, part: str, root: Schema) -> Iterator[Schema]:
    for alternative in _alternatives(schema, root):
        if alternative.get("type") == "object":
            others = alternative.get("additionalProperties")
            subschema = alternative.get("properties", {}).get(part, others)
            if isinstance(subschema, dict):
                yield subschema
        elif alternative.get("type") == "array" and part.isdecimal():
            first = alternative.get("prefixItems", ())
            subschema = first[int(part)] if int(part) < len(first) else alternative.get("items")
            if isinstance(subschema, dict):
                yield subschema
