"""View of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page

if TYPE_CHECKING:
    from modelsmith.operations.audit import AuditResult


def audited(result: AuditResult, page: Page) -> None:
    """Page of what ``modelsmith audit`` gives."""
    audit = result.audit
    promotions = [change.promotion for change in audit.changes if change.promotion]
    page.rows(
        [
            ("repository", audit.repository),
            ("range", f"from {audit.since} on, before {audit.until}"),
            ("root", audit.root),
            ("verified", f"main up to {result.tip}"),
            ("changes", f"{len(audit.changes)}, of which {len(promotions)} promotions"),
            ("approvals", str(sum(len(change.approvals) for change in audit.changes))),
            ("overrides", str(sum(promotion.override is not None for promotion in promotions))),
            ("rollbacks", str(sum(promotion.rollback is not None for promotion in promotions))),
            ("holds ended", str(sum(promotion.hold_cleared is not None for promotion in promotions))),
            ("keys", f"{len(audit.keys_after)} in force, {sum(len(change.keys) for change in audit.changes)} changes"),
            ("this clone", f"{len(result.clone.events)} events, {len(result.clone.runs)} runs of runbooks"),
            ("digest", result.digest),
        ]
    )
    for path in result.files:
        page.line(f"written: {path}")
