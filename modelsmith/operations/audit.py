"""``modelsmith audit``: what happened to main in a time, sealed for whoever asks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from modelsmith.ledger.ledger import ledger_of
from modelsmith.operations.contract import Cli, Request, Result
from modelsmith.operations.runbook_records import Runs
from modelsmith.operations.verify import VerifyRequest
from modelsmith.operations.verify import run as verify
from modelsmith.promotion.audit import audit_of, plain
from modelsmith.promotion.audit_files import sealed_files, write_files
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.root import find_root
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.audit import Audit, CloneAudit
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.runbook_run import AuditedRun, AuditedStep

Moment = Annotated[str, Field(max_length=40)]


class AuditRequest(Request):
    """Verifies main, then tells what it took in: every change with its approvals, evidence, keys, overrides, rollbacks.

    A date is its beginning in UTC; a time needs its offset (2026-11-29T12:00:00Z). The range is half-open: from the
    first moment on, before the second. It must be over, so that the same range of the same main is always the same
    bytes.

    With --out, DIR gets audit.json (from main alone), clone.json (events and runbook runs that this clone knows of the
    same time), a signature of each by the harness's key, and audit.md to read. `modelsmith verify --audit DIR` makes
    audit.json again from main and compares.
    """

    since: Annotated[Moment, Field(description="First day or time of the range."), Cli(option="--from")]
    until: Annotated[Moment, Field(description="Day or time at which it has ended."), Cli(option="--to")]
    out: Annotated[Path | None, Field(description="Folder to write the signed bundle into.")] = None


class AuditResult(Result):
    """Everything that main took in within the range."""

    digest: str
    """Digest of ``audit.json``."""
    tip: str
    """Main, as it was verified."""
    audit: Audit
    clone: CloneAudit
    files: tuple[str, ...]
    """Written."""


def run(workspace: Workspace, request: AuditRequest) -> AuditResult:
    """Verify, read, and seal where a folder is named."""
    since, until = _moment("--from", request.since), _moment("--to", request.until)
    if since >= until:
        raise InvalidInput("bad-range", f"{request.since} is not before {request.until}", "Give the earlier one first.")
    if until > datetime.now(UTC):
        raise InvalidInput(
            "range-not-over",
            f"{request.until} has not come yet, so main may still take in more",
            "Give a --to that is over; a date is its beginning in UTC.",
        )
    verified = verify(workspace, VerifyRequest())
    with ObjectReader(workspace.root) as git:
        log = git.first_parent_log(verified.tip)
        begin, root = find_root(git, log, verified.root)
        audit = audit_of(git, log[begin:], root, since, until)
        main = read_governed_state(git, verified.tip)
    clone = _of_clone(workspace, audit)
    files: dict[str, bytes] = {}
    if request.out:
        harness = open_harness(workspace)
        files = sealed_files(audit, clone, harness.signer, (*main.trusted, *main.workflows), request.out)
        write_files(request.out, files)
    written_files = tuple(str(request.out / name) for name in sorted(files)) if request.out else ()
    return AuditResult(digest=digest(audit), tip=verified.tip, audit=audit, clone=clone, files=written_files)


def _moment(option: str, text: str) -> datetime:
    """The moment that a date or a time with its offset names, in UTC."""
    try:
        day = date.fromisoformat(text) if len(text) == 10 else None
        moment = datetime.combine(day, time(), UTC) if day else datetime.fromisoformat(text)
        if moment.tzinfo is not None and 1970 < moment.year < 9998:
            return moment.astimezone(UTC)
        words = "has no offset from UTC" if moment.tzinfo is None else "is out of the calendar"
    except ValueError:
        words = "is neither a date nor a time"
    raise InvalidInput(
        "bad-range",
        f"{option} {text[:40]!a} {words}",
        "Write 2026-11-29, or 2026-11-29T12:00:00Z.",
        option=option,
        reason=words,
    )


def _of_clone(workspace: Workspace, audit: Audit) -> CloneAudit:
    events = (event for event in ledger_of(workspace).events() if audit.since <= event.at < audit.until)
    runs = (_within(run, audit) for run in Runs(workspace).audit())
    return CloneAudit(
        repository=audit.repository,
        audit=digest(audit),
        since=audit.since,
        until=audit.until,
        events=tuple(events),
        runs=tuple(run for run in runs if run.steps),
    )


def _within(run: AuditedRun, audit: Audit) -> AuditedRun:
    steps = tuple(_plain_step(step) for step in run.steps if audit.since <= step.ended < audit.until)
    return run.model_copy(update={"steps": steps, "parameters": _plain(run.parameters)})


def _plain_step(step: AuditedStep) -> AuditedStep:
    return step.model_copy(update={"arguments": _plain(step.arguments)})


def _plain(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: plain(value) if isinstance(value, str) else value for name, value in values.items()}
