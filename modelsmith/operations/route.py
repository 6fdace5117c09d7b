"""``modelsmith route``: where requests would go, and what a change of rules would move."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from modelsmith.governance.router import RequestParts, Route, Rules, assigned, readable
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.serving import traffic
from modelsmith.repository.load import cluster_names, load_router
from modelsmith.repository.tree import Tree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.one_reading import read_json

MOST = 100_000
LARGEST = 256 << 20
"""Bytes of the file."""
SHOWN = 20
"""Rules that were passed over, shown of each request."""


class RouteRequest(Request):
    """Says for each request which rule of clusters/router.yaml takes it, whose it is, who answers, and why.

    REQUESTS is a file with one request as JSON, or one a line: the body of a chat request, or {"headers": {...},
    "body": {...}}. The rules are those in the work tree; with --against, those of another revision are asked too, and
    what they send elsewhere is listed. Nothing of a request is shown, and nothing is sent anywhere.
    """

    requests: Annotated[Path, Field(description="File of requests, JSON or JSONL."), ARGUMENT]
    against: Annotated[
        str | None, Field(description="Revision, such as main, whose rules the work tree's are compared with.")
    ] = None


class PassedOver(Frozen):
    """A rule that did not take a request."""

    rule: str
    condition: str
    """The first of its conditions that does not hold."""


class Answering(Frozen):
    """Specialist who answers for the cluster."""

    specialist: str
    share: float
    """Of requests like this one: 1 where its key decides."""


class Routed(Frozen):
    """Cluster and specialist that one request goes to."""

    number: int
    """Number of the request in the file, from 1."""
    cluster: str | None
    """None: no rule takes it, and the door refuses it."""
    rule: str | None
    """None where no rules stand and ``model`` names the cluster."""
    sticky: bool
    """Whether it has a key that decides who answers."""
    answering: tuple[Answering, ...]
    """Specialists that answer, by what is committed here."""
    passed_over: tuple[PassedOver, ...]


class Moved(Frozen):
    """A request that the rules here send elsewhere than those of ``--against``."""

    number: int
    before: str | None
    """Cluster; null where no rule took it."""
    before_rule: str | None
    after: str | None
    after_rule: str | None


class RouteResult(Result):
    """In the order of the file."""

    rules: int
    """Rules in the work tree; 0: ``model`` names the cluster."""
    requests: tuple[Routed, ...]
    clusters: dict[str, int]
    """Requests by cluster."""
    unrouted: int
    against: str | None
    moved: tuple[Moved, ...]


def run(workspace: Workspace, request: RouteRequest) -> RouteResult:
    """Route requests by main's rules, or by a changed copy."""
    main = read_governed_state(workspace.git, "HEAD")
    rules = _rules(workspace.files)
    other = None if request.against is None else _rules(workspace.revision(request.against))
    routed: list[Routed] = []
    moved: list[Moved] = []
    for number, parts in enumerate(_read(request.requests), start=1):
        route = rules.route(parts)
        routed.append(_routed(main, rules, number, parts, route))
        before = other.route(parts) if other else None
        if other and (before and before.cluster) != (route and route.cluster):
            moved.append(
                Moved(
                    number=number,
                    before=before.cluster if before else None,
                    before_rule=before.rule if before else None,
                    after=route.cluster if route else None,
                    after_rule=route.rule if route else None,
                )
            )
    clusters = [entry.cluster for entry in routed if entry.cluster]
    return RouteResult(
        rules=rules.count,
        requests=tuple(routed),
        clusters={name: clusters.count(name) for name in sorted(set(clusters))},
        unrouted=len(routed) - len(clusters),
        against=request.against,
        moved=tuple(moved),
    )


def _rules(tree: Tree) -> Rules:
    return Rules(load_router(tree), cluster_names(tree))


def _routed(main: GovernedState, rules: Rules, number: int, question: RequestParts, route: Route | None) -> Routed:
    passed = [PassedOver(rule=rule, condition=words) for rule, words in rules.passed_over(question)]
    return Routed(
        number=number,
        cluster=route.cluster if route else None,
        rule=route.rule if route else None,
        sticky=bool(route and route.key is not None),
        answering=_answering(main, route) if route else (),
        passed_over=tuple(passed[:SHOWN]),
    )


def _answering(main: GovernedState, route: Route) -> tuple[Answering, ...]:
    if route.cluster not in cluster_names(main.tree):
        return ()
    incumbent, watched, share = traffic(main, route.cluster)
    if watched is None:
        return (Answering(specialist=incumbent.specialist, share=1.0),)
    if route.key is not None:
        arm = watched if assigned(route.key, route.cluster, watched.specialist, share) else incumbent
        return (Answering(specialist=arm.specialist, share=1.0),)
    both = ((incumbent, 1 - share), (watched, share))
    return tuple(Answering(specialist=arm.specialist, share=round(part, 9)) for arm, part in both if part)


def _read(path: Path) -> Iterator[RequestParts]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)  # what a pipe or a device holds is not known before
    except OSError as error:
        raise InvalidInput(
            "missing-file", f"{path.name} cannot be read: {error.strerror}", "Correct the path.", path=path.name
        ) from None
    if len(data) > LARGEST:
        raise InvalidInput("unusable-request", f"{path.name} is larger than {LARGEST >> 20} MiB", "Split the file.")
    documents = [(1, data)] if _is_json(data) else [*enumerate(data.splitlines(), start=1)]
    if len(documents) > MOST:
        raise InvalidInput("unusable-request", f"{path.name} holds more than {MOST} requests", "Split the file.")
    lines = [(line, document) for line, document in documents if document.strip()]
    if not lines:
        raise InvalidInput("unusable-request", f"{path.name} holds no request", "Write one request a line.")
    for line, document in lines:
        yield _request_parts(path.name, line, document)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _request_parts(name: str, line: int, data: bytes) -> RequestParts:
    try:
        document = read_json(data)
    except (ValueError, RecursionError):
        raise _bad(name, line, "", "is no JSON that every reader reads alike, so the door refuses it") from None
    if not isinstance(document, dict):
        raise _bad(name, line, "", "is no JSON object")
    wrapped = "body" in document and "messages" not in document
    body, headers = (document["body"], document.get("headers", {})) if wrapped else (document, {})
    if not isinstance(body, Mapping):
        raise _bad(name, line, "body", "is no JSON object")
    if not (isinstance(headers, dict) and all(isinstance(value, str) for value in headers.values())):
        raise _bad(name, line, "headers", "is no mapping of names to texts")
    model: Any = body.get("model")
    if not isinstance(model, str):
        raise _bad(name, line, "model", "is missing, or no text")
    return RequestParts(model, readable(headers.items()), body)


def _bad(name: str, line: int, field: str, problem: str) -> InvalidInput:
    where = f"line {line}" + (f", {field}" if field else "")
    return InvalidInput(
        "unusable-request",
        f"{name}, {where}: {problem}",
        'Write one request a line: the body of a chat request, or {"headers": {...}, "body": {...}}.',
        line=line,
        field=field,
    )
