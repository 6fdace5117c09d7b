"""GitHub's own GraphQL schema (`@octokit/graphql-schema`), where it is at hand: what we ask, and what the server says.

``make openapi`` fetches it with npm, pinned by checksum, and cuts it to what our queries name. Run as a script it does
the cutting: ``python github_graphql.py schema.graphql OUT.graphql``.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLObjectType,
    GraphQLSchema,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_ast_schema,
    build_schema,
    execute_sync,
    get_named_type,
    parse,
    print_type,
    validate,
    visit,
)

FILE = Path(__file__).parents[1] / ".cache" / "github-openapi" / "served.graphql"
REQUIRED = "MODELSMITH_REQUIRE_TOOLS"


def queries() -> tuple[str, ...]:
    """Every query of ours."""
    from modelsmith.forges.github import queue

    return queue.LOOK, queue.ENTER


def wrong_with_query(schema: GraphQLSchema, query: str) -> list[str]:
    """Why GitHub would not take it."""
    return [error.message for error in validate(schema, parse(query))]


def wrong_with_answer(
    schema: GraphQLSchema, query: str, variables: dict[str, Any], answer: dict[str, Any]
) -> list[str]:
    """Why an answer, or what was sent, is not as GitHub's schema has it.

    The query is run on the answer itself: what comes of it is the same answer, if every field and type is right.
    """
    if "errors" in answer:
        return [] if all("message" in error for error in answer["errors"]) else ["an error says nothing"]
    result = execute_sync(schema, parse(query), root_value=answer["data"], variable_values=variables)
    if result.errors:
        return [error.message for error in result.errors]
    return [] if result.data == answer["data"] else [f"{answer['data']} has more than was asked for: {result.data}"]


@cache
def schema() -> GraphQLSchema | None:
    """GitHub's schema; None where it is not at hand, unless tools are required."""
    if FILE.is_file():
        return build_schema(FILE.read_text())
    if os.environ.get(REQUIRED):
        raise FileNotFoundError(f"{FILE} is required and missing; run `make openapi`")
    return None


class _Named(Visitor):
    """Which fields of which types a query names, and every type that these come to."""

    def __init__(self, info: TypeInfo) -> None:
        super().__init__()
        self.info = info
        self.fields: dict[str, set[str]] = defaultdict(set)

    def enter_field(self, node: Any, *_: Any) -> None:
        parent = self.info.get_parent_type()
        assert parent is not None
        self.fields[parent.name].add(node.name.value)


def cut(whole: str) -> str:
    """The schema with the fields that our queries name, and the types that these need."""
    full = build_ast_schema(parse(whole), assume_valid=True)
    document = DocumentNode(
        definitions=tuple(definition for query in queries() for definition in parse(query).definitions)
    )
    info = TypeInfo(full)
    named = _Named(info)
    visit(document, TypeInfoVisitor(info, named))
    types: dict[str, Any] = {}
    todo: list[Any] = [full.query_type, full.mutation_type, *(full.type_map[name] for name in named.fields)]
    while todo:
        kind = todo.pop()
        if kind.name in types:
            continue
        types[kind.name] = kind
        if isinstance(kind, GraphQLObjectType):
            fields_needed = named.fields[kind.name] or {"id"}
            kind.fields = {name: field for name, field in kind.fields.items() if name in fields_needed}
            kind.interfaces = ()
        if hasattr(kind, "types"):
            kind.types = tuple(graphql_type for graphql_type in kind.types if _is_asked_for(graphql_type.name))
            todo += kind.types
        for field in getattr(kind, "fields", {}).values():
            todo += [get_named_type(member.type) for member in (field, *getattr(field, "args", {}).values())]
    return "\n\n".join(print_type(kind) for _, kind in sorted(types.items()) if kind.name not in _BUILT_IN)


_BUILT_IN = {"Int", "Float", "String", "Boolean", "ID"}


def _is_asked_for(name: str) -> bool:
    """Whether a query names it, as a type or as a kind of event."""
    kind = re.sub("(?<!^)(?=[A-Z])", "_", name).upper()
    return any(re.search(rf"\b({name}|{kind})\b", query) for query in queries())


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(cut(Path(sys.argv[1]).read_text()))
