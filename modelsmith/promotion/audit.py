"""The audit of a time, read from a main that was verified."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

from modelsmith.evidence.sanitise import assert_clean
from modelsmith.governance.shape import concern
from modelsmith.promotion.attestation import approved_at
from modelsmith.promotion.histories import parse_record, record_paths
from modelsmith.promotion.openings import OPENING
from modelsmith.promotion.receipt_commits import Receipts, read_receipts
from modelsmith.promotion.receipts import MERGE_RECEIPT, signed_name
from modelsmith.promotion.root import GOVERNANCE
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.load import load_machine_file, load_people, load_policy
from modelsmith.repository.tree import Revision
from modelsmith.schema.audit import (
    Audit,
    AuditedApproval,
    AuditedChange,
    AuditedKey,
    AuditedOverride,
    AuditedPromotion,
    AuditedRollback,
    KeyChange,
)
from modelsmith.schema.canonical import content_digest, sha256
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.governance import SshKey
from modelsmith.schema.promotion import (
    CLEARANCE_FILE,
    OVERRIDE_FILE,
    ROLLBACK_FILE,
    HoldClearance,
    Override,
    RollbackOrder,
)
from modelsmith.schema.pull import Change, PullEvent
from modelsmith.signing.dsse import key_name
from modelsmith.signing.ssh import signing_key


def audit_of(git: Git, log: Sequence[Commit], root: str, since: datetime, until: datetime) -> Audit:
    """Every change of main that was merged from ``since`` on and before ``until``.

    Args:
        git: The repository, whose main was verified.
        log: That main along its first parents, oldest first, from the governance root on.
        root: The root's fingerprint.
        since: First moment, in UTC.
        until: First moment that is none of it, in UTC.

    Raises:
        IntegrityFailure: ``bad-file`` and others, for a main that was not verified.
    """
    steps = {commit.id: commit for commit in log}
    place = {commit.id: number for number, commit in enumerate(log)}
    all_receipts = [receipts for commit in log[1:] if (receipts := read_receipts(git, commit))]
    included = [item for item in all_receipts if since <= item.receipt.at < until]
    included.sort(key=lambda item: place[item.receipt.merge])
    changes = tuple(_change(git, steps[item.receipt.merge], item) for item in included)
    earlier = [item.commit.id for item in all_receipts if item.receipt.at < since]
    before = steps[included[0].receipt.merge].parents[0] if included else earlier[-1] if earlier else log[0].id
    after = included[-1].commit.id if included else before
    return Audit(
        repository=load_policy(Revision(git, after)).repository,
        root=root,
        since=since,
        until=until,
        main_before=before,
        main_after=after,
        keys_before=keys_in_force(Revision(git, before)),
        keys_after=keys_in_force(Revision(git, after)),
        changes=changes,
    )


def keys_in_force(tree: Revision) -> tuple[AuditedKey, ...]:
    """Everything that may sign by a commit's people and policy, ended and revoked keys with their times."""
    people, policy = load_people(tree), load_policy(tree)
    keys = [
        *(_ssh_key("person", person.id, key) for person in people.people for key in person.keys),
        *(_ssh_key("harness", harness.id, key) for harness in people.harness for key in harness.keys),
    ]
    keys += [
        AuditedKey(
            holder=harness.id,
            kind="observer" if harness.observer else "harness",
            use="seal",
            key=f"sha256:{key_name(tree.read(f'{GOVERNANCE}/trust/{name}'))}",
        )
        for harness in people.harness
        for name in harness.trust
    ]
    keys += [
        AuditedKey(
            holder=f"{workflow.repository}/{workflow.workflow}",
            kind="workflow",
            use="seal",
            key=content_digest(workflow),
        )
        for workflow in policy.keyless
    ]
    return tuple(sorted(keys, key=lambda key: (key.kind, key.holder, key.use, key.key)))


def _ssh_key(kind: Literal["person", "harness"], holder: str, key: SshKey) -> AuditedKey:
    times = key.model_dump(exclude={"key"})
    return AuditedKey(holder=holder, kind=kind, use="ssh", key=fingerprint(key.key), **times)


def fingerprint(key: str) -> str:
    """An SSH key's SHA-256, as ``ssh-keygen -l`` shows it."""
    body = base64.b64decode(key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")


def plain(text: str) -> str:
    """Somebody's words; their digest in place of what looks like a secret, an address or a path of a machine."""
    try:
        assert_clean(json.dumps(text).encode())
    except IntegrityFailure:
        return f"withheld, {sha256(text.encode())}"
    return text


def _change(git: Git, step: Commit, receipts: Receipts) -> AuditedChange:
    receipt, folder, tree = receipts.receipt, receipts.folder, Revision(git, receipts.commit.id)
    change = git.change(step.parents[0], step.id)
    opening = tree.read(f"{folder}/{OPENING}")
    event = PullEvent.model_validate_json(opening)
    return AuditedChange(
        commit=step.id,
        receipts=receipts.commit.id,
        pull=receipt.pull,
        at=receipt.at,
        change=receipt.change,
        paths=tuple(_paths(change)),
        requested_by=receipt.requested_by,
        opened_by=event.actor,
        opened_at=event.at,
        opening=sha256(opening),
        merged_by=receipt.merged_by,
        receipt=sha256(tree.read(f"{folder}/{MERGE_RECEIPT}")),
        gate=receipt.gate,
        checks=receipt.checks,
        approvals=tuple(_approvals(Revision(git, step.parents[0]), tree, receipts)),
        promotion=_promotion(change, Revision(git, step.id)),
        keys=_key_changes(git, step, change),
    )


def _paths(change: Change) -> Iterator[str]:
    for changed in sorted(path.path for path in change.paths):
        yield plain(changed) if concern(changed) == "other" else changed


def _approvals(main: Revision, tree: Revision, receipts: Receipts) -> Iterator[AuditedApproval]:
    people = load_people(main)
    for actor, name in sorted(receipts.receipt.approvals.items()):
        path = f"{receipts.folder}/{name}"
        data = tree.read(path)
        signed = name == signed_name(actor)
        key = signing_key(tree.read(f"{path}.sig").decode()) if signed else None
        yield AuditedApproval(
            actor=actor,
            at=approved_at(people, actor, path, data),
            how="signed" if signed else "attested",
            statement=sha256(data),
            key=fingerprint(key) if key else None,
        )


def _promotion(change: Change, tree: Revision) -> AuditedPromotion | None:
    paths = record_paths(changed.path for changed in change.paths)
    if not paths:
        return None
    (path,) = paths
    data = tree.read(path)
    record, folder = parse_record(path, data), path.rpartition("/")[0]
    return AuditedPromotion(
        cluster=record.cluster,
        specialist=record.specialist,
        sequence=record.sequence,
        event=record.event,
        from_state=record.from_state,
        to_state=record.to_state,
        artifact=record.artifact,
        composite=record.composite,
        record=sha256(data),
        files=record.evidence,
        override=_override(tree, folder) if OVERRIDE_FILE in record.evidence else None,
        rollback=_rollback(tree, folder) if ROLLBACK_FILE in record.evidence else None,
        hold_cleared=_hold_cleared(tree, folder) if CLEARANCE_FILE in record.evidence else None,
    )


def _override(tree: Revision, folder: str) -> AuditedOverride:
    override = load_machine_file(tree, f"{folder}/{OVERRIDE_FILE}", Override)
    return AuditedOverride(run=override.run, asked_by=override.asked_by, reason=plain(override.reason))


def _rollback(tree: Revision, folder: str) -> AuditedRollback:
    order = load_machine_file(tree, f"{folder}/{ROLLBACK_FILE}", RollbackOrder)
    return AuditedRollback(
        undoes=order.undoes,
        prior_specialist=order.prior_specialist,
        trigger=order.trigger,
        reason=plain(order.reason),
    )


def _hold_cleared(tree: Revision, folder: str) -> str:
    return plain(load_machine_file(tree, f"{folder}/{CLEARANCE_FILE}", HoldClearance).reason)


def _key_changes(git: Git, step: Commit, change: Change) -> tuple[KeyChange, ...]:
    if not any(path.path.startswith(f"{GOVERNANCE}/") for path in change.paths):
        return ()
    before, after = (keys_in_force(Revision(git, commit)) for commit in (step.parents[0], step.id))
    return (*_differ("went", before, after), *_differ("came", after, before))


def _differ(side: str, these: Iterable[AuditedKey], others: Sequence[AuditedKey]) -> Iterator[KeyChange]:
    return (KeyChange.model_validate({"what": side, "key": key}) for key in these if key not in others)
