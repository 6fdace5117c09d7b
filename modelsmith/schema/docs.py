"""The text below a field, as its documentation; read from the source only where somebody asks.

pydantic can take these texts when a class is made (``use_attribute_docstrings``). It then reads and parses source for
every class, which was a fifth of the time that the forge's hook and every command need to start.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema
from typing_extensions import override


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Documentation by field name, for those that have any; a description that is given with the field comes first."""
    docs: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            docs |= _in_module(owner.__module__).get(owner.__qualname__, {})
    descriptions = {name: field.description for name, field in model.model_fields.items() if field.description}
    return {name: text for name, text in (docs | descriptions).items() if name in model.model_fields}


DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""Dialect of every schema that is exported."""


class Documented(GenerateJsonSchema):
    """JSON Schemas in which every field has its documentation as ``description``."""

    @override
    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        """See pydantic."""
        schema_made = super().model_schema(schema)
        model = schema["cls"]
        for name, text in field_docs(model).items():
            property_schema = schema_made.get("properties", {}).get(model.model_fields[name].alias or name)
            if property_schema is not None:
                property_schema.setdefault("description", text)
        return schema_made


def json_schema(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what a type reads (``validation``) or writes (``serialization``)."""
    return {"$schema": DIALECT, **model.model_json_schema(by_alias=True, mode=mode, schema_generator=Documented)}


@cache
def _in_module(name: str) -> dict[str, dict[str, str]]:
    """Documentation of the fields of every class of a module, by the class's qualified name."""
    docs: dict[str, dict[str, str]] = {}
    waiting = [("", ast.parse(inspect.getsource(sys.modules[name])))]
    while waiting:
        prefix, parent = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.ClassDef):
                docs[prefix + node.name] = _fields(node)
                waiting.append((f"{prefix}{node.name}.", ast.Module(node.body, [])))
    return docs


def _fields(node: ast.ClassDef) -> dict[str, str]:
    pairs = zip(node.body, node.body[1:], strict=False)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
