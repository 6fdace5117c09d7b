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
                ["approvals", str(sum(len(one.approvals) for one in audit.changes))],
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
    for one in audit.changes:
        people = ", ".join(safe(approval.actor) for approval in one.approvals)
        yield [_moment(one.at), str(one.pull), _what(one), one.gate, people or "nobody", safe(one.merged_by)]


def _what(change: AuditedChange) -> str:
    if change.promotion:
        return f"{safe(change.promotion.specialist)}: {change.promotion.event}"
    first = safe(change.paths[0]) if change.paths else "nothing"
    return first if len(change.paths) < 2 else f"{first} and {len(change.paths) - 1} more"


def _approvals(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        for one in change.approvals:
            key = safe(one.key) if one.key else "none: as a workflow attested it"
            yield [str(change.pull), safe(one.actor), _moment(one.at), one.how, short(one.statement), key]


def _evidence(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        if change.promotion:
            one = change.promotion
            evidence = one.files.get("evidence.json")
            composite = "" if one.composite is None else f"{one.composite:.4f}"
            yield [safe(one.specialist), one.event, composite, short(one.record), short(evidence) if evidence else ""]


def _exceptions(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        one = change.promotion
        if one and one.override:
            yield [
                safe(one.specialist),
                f"override, asked for by {safe(one.override.asked_by)}",
                safe(one.override.reason),
            ]
        if one and one.rollback:
            back = f"rolled back to {safe(one.rollback.prior_specialist)} ({one.rollback.trigger}); hold begins"
            yield [safe(one.specialist), back, safe(one.rollback.reason)]
        if one and one.hold_cleared is not None:
            yield [safe(one.specialist), "hold ends", safe(one.hold_cleared)]


def _key_changes(audit: Audit) -> Iterator[list[str]]:
    for change in audit.changes:
        for one in change.keys:
            yield [str(change.pull), one.what, safe(one.key.holder), one.key.use, safe(one.key.key)]


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
        for one in run.steps:
            code = one.state if one.exit is None else f"{one.state}, {one.exit}"
            yield [
                short(run.id),
                safe(run.runbook),
                safe(one.step),
                safe(one.role or "a person"),
                code,
                _moment(one.ended),
            ]


def _events(clone: CloneAudit) -> Iterator[list[str]]:
    names = [one.event.name for one in clone.events]
    for name in sorted(set(names)):
        yield [name, str(names.count(name))]


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
