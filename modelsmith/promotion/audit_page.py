"""The page of an audit, made of its JSON alone: whoever has that makes the very same page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from modelsmith.evidence.markdown import safe, short, table
from modelsmith.schema.audit import Audit, AuditedChange, AuditedKey, CloneAudit


def audit_page(audit: Audit, clone: CloneAudit) -> bytes:
    """Markdown; every word of others is data in it."""
    parts = [
        f"# Audit of {safe(audit.repository)}",
        f"From {_moment(audit.since)} on, before {_moment(audit.until)}; in UTC.",
        table(
            [
                ["", ""],
                ["governance root", short(audit.root)],
                ["main before", short(audit.main_before)],
                ["main after", short(audit.main_after)],
                ["changes", str(len(audit.changes))],
                ["approvals", str(sum(len(change.approvals) for change in audit.changes))],
            ],
            "ll",
        ),
        *_section("Changes", ["merged", "pull request", "what", "gate", "approved by", "merged by"], _changes(audit)),
        *_section("Approvals", ["pull request", "who", "when", "how", "statement", "key"], _approvals(audit)),
        *_section("Evidence", ["specialist", "event", "composite", "record", "evidence"], _evidence(audit)),
        *_section("Overrides, rollbacks, holds", ["specialist", "what", "reason"], _exceptions(audit)),
        *_section("Keys that changed", ["pull request", "what", "holder", "use", "key"], _key_changes(audit)),
        *_section("Keys in force at the end", ["holder", "kind", "use", "key", "until"], map(_key, audit.keys_after)),
        *_section("Runs of runbooks, by this clone", ["run", "runbook", "step", "role", "exit", "ended"], _runs(clone)),
        *_section("Events, by this clone", ["event", "how often"], _events(clone)),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _section(title: str, head: Sequence[str], rows: Iterator[list[str]] | map[list[str]]) -> tuple[str, str]:
    body = list(rows)
    return f"## {title}", table([list(head), *body], "l" * len(head)) if body else "None."


def _changes(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        people = ", ".join(safe(approval.actor) for approval in change.approvals)
        yield [
            _moment(change.at),
            str(change.pull),
            _change_title(change),
            change.gate,
            people or "nobody",
            safe(change.merged_by),
        ]


def _change_title(change: AuditedChange) -> str:
    if change.promotion:
        return f"{safe(change.promotion.specialist)}: {change.promotion.event}"
    first = safe(change.paths[0]) if change.paths else "nothing"
    return first if len(change.paths) < 2 else f"{first} and {len(change.paths) - 1} more"


def _approvals(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        for approval in change.approvals:
            key = safe(approval.key) if approval.key else "none: as a workflow attested it"
            yield [
                str(change.pull),
                safe(approval.actor),
                _moment(approval.at),
                approval.how,
                short(approval.statement),
                key,
            ]


def _evidence(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        if change.promotion:
            promotion = change.promotion
            evidence = promotion.files.get("evidence.json")
            composite = "" if promotion.composite is None else f"{promotion.composite:.4f}"
            yield [
                safe(promotion.specialist),
                promotion.event,
                composite,
                short(promotion.record),
                short(evidence) if evidence else "",
            ]


def _exceptions(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        promotion = change.promotion
        if promotion and promotion.override:
            yield [
                safe(promotion.specialist),
                f"override, asked for by {safe(promotion.override.asked_by)}",
                safe(promotion.override.reason),
            ]
        if promotion and promotion.rollback:
            order = promotion.rollback
            back = f"rolled back to {safe(order.prior_specialist)} ({order.trigger}); hold begins"
            yield [safe(promotion.specialist), back, safe(order.reason)]
        if promotion and promotion.hold_cleared is not None:
            yield [safe(promotion.specialist), "hold ends", safe(promotion.hold_cleared)]


def _key_changes(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        for key in change.keys:
            yield [str(change.pull), key.what, safe(key.key.holder), key.key.use, safe(key.key.key)]


def _key(key: AuditedKey) -> list[str]:
    until = (
        f"revoked {_moment(key.revoked_at)}"
        if key.revoked_at
        else _moment(key.valid_before)
        if key.valid_before
        else ""
    )
    return [safe(key.holder), key.kind, key.use, safe(key.key), until]


def _runs(clone: CloneAudit) -> Iterator[list[str]]:
    for run in clone.runs:
        for step in run.steps:
            code = step.state if step.exit is None else f"{step.state}, {step.exit}"
            yield [
                short(run.id),
                safe(run.runbook),
                safe(step.step),
                safe(step.role or "a person"),
                code,
                _moment(step.ended),
            ]


def _events(clone: CloneAudit) -> Iterator[list[str]]:
    names = [event.event.name for event in clone.events]
    for name in sorted(set(names)):
        yield [name, str(names.count(name))]


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
