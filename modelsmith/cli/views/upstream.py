"""How the verbs about the toolkit's own repository are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page
from modelsmith.schema.steps import shell_line

if TYPE_CHECKING:
    from modelsmith.operations.upstream_contribute import UpstreamContributeResult
    from modelsmith.operations.upstream_pull import UpstreamPullResult
    from modelsmith.operations.upstream_status import UpstreamStatusResult

MOST = 20
"""Paths that are listed; ``--json`` has all."""


def status(result: UpstreamStatusResult, page: Page) -> None:
    """Page of what ``modelsmith upstream status`` gives."""
    page.rows(
        [
            ("upstream", f"{result.upstream[:12]}, {result.commits} commits since {result.last_pulled[:12]}"),
            ("left", f"{result.left} changed paths there are a team's own here"),
            ("next", shell_line(result.next) if result.next else "nothing to pull"),
        ]
    )
    _paths(page, "changed there", result.incoming)
    _paths(page, "otherwise here", result.ours)


def pull(result: UpstreamPullResult, page: Page) -> None:
    """Page of what ``modelsmith upstream pull`` gives."""
    if result.branch is None:
        page.line(f"main holds the toolkit of upstream at {result.upstream[:12]}")
        return
    page.rows([("branch", result.branch), ("next", shell_line(result.next) if result.next else "")])
    _paths(page, "changed", result.paths)
    _paths(page, "left as they are here", result.left)


def contribute(result: UpstreamContributeResult, page: Page) -> None:
    """Page of what ``modelsmith upstream contribute`` gives."""
    page.rows(
        [
            ("branch", result.branch),
            ("read it", f"git show {result.branch}"),
            ("push it", f"git push REMOTE {result.branch}, to where pull requests for upstream come from"),
        ]
    )
    _paths(page, "holds", result.paths)


def _paths(page: Page, title: str, paths: tuple[str, ...]) -> None:
    if paths:
        page.gap()
        page.line(f"{title}:")
    for path in paths[:MOST]:
        page.line(f"  {path}")
    if len(paths) > MOST:
        page.line(f"  and {len(paths) - MOST} more")
