"""The audit of a time: what main took in, who let it, by which keys. Digests, names and times; no text of a case."""

from __future__ import annotations

from typing import Literal

from modelsmith.schema.base import Actor, Digest, Event, Frozen, GitHash, Moment, Slug, State
from modelsmith.schema.events import Recorded
from modelsmith.schema.promotion import SpecialistId
from modelsmith.schema.runbook_run import AuditedRun

AUDIT_FILE, AUDIT_SIGNATURE = "audit.json", "audit.sigstore.json"
CLONE_FILE, CLONE_SIGNATURE = "clone.json", "clone.sigstore.json"
PAGE_FILE = "audit.md"
AUDIT_TYPE = "https://modelsmith.dev/audit/v1"
CLONE_TYPE = "https://modelsmith.dev/clone-audit/v1"


class AuditedApproval(Frozen):
    """An approval that a merge rests on."""

    actor: Actor
    at: Moment
    how: Literal["signed", "attested"]
    """With the person's own key, or at the forge, as a workflow of main attested it."""
    statement: Digest
    """Of the file that proves it, beside the merge's receipt."""
    key: str | None
    """Fingerprint of the person's key (``SHA256:...``, as ssh-keygen shows it)."""


class AuditedOverride(Frozen):
    """An eval that came out INCONCLUSIVE and was let count."""

    run: Digest
    asked_by: Actor
    reason: str


class AuditedRollback(Frozen):
    """A deployment that was undone."""

    undoes: Digest
    """Record of the deployment."""
    prior_specialist: str
    """The specialist that traffic returned to."""
    trigger: Literal["manual", "metric"]
    reason: str


class AuditedPromotion(Frozen):
    """A record that main took in."""

    cluster: Slug
    specialist: SpecialistId
    sequence: int
    event: Event
    from_state: State | None
    to_state: State
    artifact: Digest
    composite: float | None
    record: Digest
    files: dict[str, Digest]
    """Of the record's folder, by name: the evidence among them."""
    override: AuditedOverride | None
    rollback: AuditedRollback | None
    hold_cleared: str | None
    """Why a hold was ended."""


class AuditedKey(Frozen):
    """Something that may sign."""

    holder: str
    kind: Literal["person", "harness", "observer", "workflow"]
    use: Literal["ssh", "seal"]
    """``ssh``: approvals, openings, merges. ``seal``: records, evidence, artifacts; an observer's, observations."""
    key: str
    """Fingerprint of an SSH key; SHA-256 of a seal's public key; digest of a workflow's terms."""
    valid_after: Moment | None = None
    valid_before: Moment | None = None
    revoked_at: Moment | None = None


class KeyChange(Frozen):
    """A change of the keys that may sign."""

    what: Literal["came", "went"]
    """One whose times of validity changed went, and came anew."""
    key: AuditedKey


class AuditedChange(Frozen):
    """One change of main."""

    commit: GitHash
    """The merge."""
    receipts: GitHash
    """Commit that holds its receipts."""
    pull: int
    at: Moment
    """When it was merged, by the clock of who merged."""
    change: Digest
    """Digest of the change that an approval is about."""
    paths: tuple[str, ...]
    requested_by: Actor
    opened_by: Actor
    opened_at: Moment
    opening: Digest
    """Digest of the signed opening."""
    merged_by: Actor
    receipt: Digest
    gate: Literal["harness", "people", "contract"]
    checks: tuple[str, ...]
    approvals: tuple[AuditedApproval, ...]
    promotion: AuditedPromotion | None
    keys: tuple[KeyChange, ...]


class Audit(Frozen):
    """``audit.json``: a function of main and the range, so that anybody with a clone makes the very same bytes."""

    version: Literal[1] = 1
    repository: str
    root: Digest
    """Fingerprint of the governance root from which all of it was verified."""
    since: Moment
    until: Moment
    """Merges with ``since <= at < until``, in UTC."""
    main_before: GitHash
    """Main before the first change; without any, as it was at ``until``."""
    main_after: GitHash
    """Main after the last change, with its receipts."""
    keys_before: tuple[AuditedKey, ...]
    """Keys in force on ``main_before``."""
    keys_after: tuple[AuditedKey, ...]
    changes: tuple[AuditedChange, ...]


class CloneAudit(Frozen):
    """``clone.json``: what the clone that was asked knows of the same time beyond main. The harness's word."""

    version: Literal[1] = 1
    repository: str
    audit: Digest
    """Digest of the ``audit.json`` that it belongs to."""
    since: Moment
    until: Moment
    events: tuple[Recorded, ...]
    """Events of the ledger, as subscribers heard them."""
    runs: tuple[AuditedRun, ...]
    """Runs of runbooks with the steps that ended in this time."""
