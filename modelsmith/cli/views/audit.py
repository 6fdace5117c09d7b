"""View of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page

if TYPE_CHECKING:
    from modelsmith.operations.audit import AuditResult


def audited(result: AuditResult, page: Page) -> None:
    """Page of what ``modelsmith audit`` gives."""
    audit = result.audit
    promotions = [one.promotion for one in audit.changes if one.promotion]
    page.rows(
        [
            ("repository", audit.repository),
            ("range", f"from {audit.since} on, before {audit.until}"),
            ("root", audit.root),
            ("verified", f"main up to {result.tip}"),
            ("changes", f"{len(audit.changes)}, of which {len(promotions)} promotions"),
            ("approvals", str(sum(len(one.approvals) for one in audit.changes))),
            ("overrides", str(sum(one.override is not None for one in promotions))),
            ("rollbacks", str(sum(one.rollback is not None for one in promotions))),
            ("holds ended", str(sum(one.hold_cleared is not None for one in promotions))),
            ("keys", f"{len(audit.keys_after)} in force, {sum(len(one.keys) for one in audit.changes)} changes"),
            ("this clone", f"{len(result.clone.events)} events, {len(result.clone.runs)} runs of runbooks"),
            ("digest", result.digest),
        ]
    )
    for path in result.files:
        page.line(f"written: {path}")
