"""Resources: what a tool that reads would answer, under an address; and the whole schema of each tool's answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import mcp_types as types

from modelsmith.mcp.calls import Reply, Session, allowed, call, refusal
from modelsmith.mcp.tools import find_tool
from modelsmith.schema.errors import InvalidInput, ModelsmithError

_SCHEME = "modelsmith://"
EVENTS = f"{_SCHEME}events"
"""The resource that can be subscribed to."""
SCHEMAS = "schemas"
"""Name of the resources that hold the whole schema of a tool's answer; the list of tools holds an outline."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHOWN = 60


class _Kind(NamedTuple):
    """One kind of resource: a tool, and the argument that the address gives."""

    name: str
    tool: str
    argument: str | None
    title: str
    given: Mapping[str, int] = MappingProxyType({})
    """Other arguments of the tool."""


_KINDS = (
    _Kind("status", "modelsmith_status", None, "Every cluster: who serves, what waits, what to do next"),
    _Kind("pulls", "pr_list", None, "Open pull requests"),
    _Kind("jobs", "modelsmith_jobs", None, "Long operations"),
    _Kind("events", "events", None, "What happened, oldest first"),
    _Kind("events", "events", "since", "What happened after a cursor", {"limit": 200}),
    _Kind("packets", "get_candidate", "number", "A pull request with its packet and gate"),
    _Kind("runs", "modelsmith_eval_results", "tag", "An eval run"),
    _Kind("evidence", "evidence_bundle", "specialist", "The evidence that a specialist rests on"),
    _Kind("lineage", "lineage_query", "id", "Where a specialist comes from"),
)


def listed(session: Session) -> list[types.Resource]:
    """Resources that need no argument."""
    return [
        types.Resource(uri=f"{_SCHEME}{kind.name}", name=kind.name, description=kind.title, mime_type=_JSON)
        for kind in _of(session)
        if kind.argument is None
    ]


def has_events(session: Session) -> bool:
    """Whether the session may read what has happened."""
    return any(kind.name == "events" for kind in _of(session))


def templates(session: Session) -> list[types.ResourceTemplate]:
    """Resources of one thing."""
    of_schemas = types.ResourceTemplate(
        uri_template=f"{_SCHEME}{SCHEMAS}/{{tool}}",
        name=SCHEMAS,
        description="The whole JSON Schema of a tool's answer",
        mime_type=_JSON,
    )
    return [
        types.ResourceTemplate(
            uri_template=f"{_SCHEME}{kind.name}/{{{kind.argument}}}",
            name=kind.name,
            description=kind.title,
            mime_type=_JSON,
        )
        for kind in _of(session)
        if kind.argument is not None
    ] + ([of_schemas] if session.tools() else [])


_JSON = "application/json"


def read(session: Session, uri: str) -> Reply:
    """What lies at the address; a refusal where nothing does, or where the session's role may not look."""
    name, _, part = uri.removeprefix(_SCHEME).partition("/")
    if uri.startswith(_SCHEME) and name == SCHEMAS:
        return _schema(session, part)
    kind = next(
        (
            candidate
            for candidate in _of(session)
            if candidate.name == name and bool(part) == (candidate.argument is not None)
        ),
        None,
    )
    if not uri.startswith(_SCHEME) or kind is None or (part and not _PART.fullmatch(part)):
        unknown = InvalidInput(
            "no-such-resource", f"There is no resource {uri[:_SHOWN]!a}", "List resources and their templates."
        )
        return Reply(refusal(session, unknown), refused=True)
    number = kind.argument == "number" and part.isdecimal()
    value = int(part) if number and len(part) < 10 else part
    return call(session, kind.tool, {kind.argument: value, "detail": True, **kind.given} if kind.argument else {})


def _schema(session: Session, name: str) -> Reply:
    """Of a tool of the session; of one that takes long, also what its task or job gives in the end."""
    try:
        tool = allowed(session, name)
    except ModelsmithError as error:
        return Reply(refusal(session, error), refused=True)
    in_the_end = {"inTheEnd": tool.whole_answer(in_the_end=True)} if tool.row.long else {}
    return Reply({"outputSchema": tool.whole_answer(), **in_the_end}, refused=False)


def _of(session: Session) -> list[_Kind]:
    return [kind for kind in _KINDS if (tool := find_tool(kind.tool)) and session.has(tool)]
