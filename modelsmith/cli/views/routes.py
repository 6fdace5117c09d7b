"""How routes are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled

if TYPE_CHECKING:
    from modelsmith.operations.route import Moved, Routed, RouteResult

MOST = 50
"""Requests shown one by one."""


def route(result: RouteResult, page: Page) -> None:
    """Page of what ``modelsmith route`` gives."""
    for request in result.requests[:MOST]:
        _request(request, page)
    if len(result.requests) > MOST:
        page.line(f"and {len(result.requests) - MOST} more; --json has all")
    shares = [(name, f"{count} of {len(result.requests)}") for name, count in result.clusters.items()]
    page.rows([*shares, *([("refused", str(result.unrouted))] if result.unrouted else [])])
    if result.against is None:
        return
    page.line(f"{len(result.moved)} of {len(result.requests)} go elsewhere than by the rules of {result.against}")
    for moved in result.moved[:MOST]:
        page.line(_moved(moved), indent=2)


def _request(request: Routed, page: Page) -> None:
    if request.cluster is None:
        page.line(Styled(f"{request.number:>4}  refused: no rule takes it", "red"))
    else:
        rule = f"rule {request.rule}" if request.rule else "by model"
        specialists = ", ".join(f"{a.specialist} {a.share:.0%}" for a in request.answering) or "not on main yet"
        page.line(
            f"{request.number:>4}  {request.cluster}  {rule}  {specialists}{' by its key' if request.sticky else ''}"
        )
    for passed in request.passed_over:
        page.line(f"not {passed.rule}: {passed.condition}", indent=6)


def _moved(moved: Moved) -> str:
    return f"{moved.number}: {_place(moved.before, moved.before_rule)} -> {_place(moved.after, moved.after_rule)}"


def _place(cluster: str | None, rule: str | None) -> str:
    return "refused" if cluster is None else f"{cluster} ({rule or 'by model'})"
