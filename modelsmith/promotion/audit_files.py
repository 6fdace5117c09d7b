"""The files of an audit: sealed, and held against main again by whoever has a clone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from modelsmith.promotion.audit import audit_of
from modelsmith.promotion.audit_page import audit_page
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.schema.audit import (
    AUDIT_FILE,
    AUDIT_SIGNATURE,
    AUDIT_TYPE,
    CLONE_FILE,
    CLONE_SIGNATURE,
    CLONE_TYPE,
    PAGE_FILE,
    Audit,
    CloneAudit,
)
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json, parse_canonical, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.signing.dsse import Signer, Trusted, adopt_or_seal, statement, unseal
from modelsmith.signing.files import write_atomically

LARGEST: Final = 1 << 28
"""Bytes of one of its files that are read, at most."""


class CheckedAudit(Frozen):
    """An audit that held."""

    repository: str
    since: datetime
    until: datetime
    changes: int
    approvals: int
    digest: str
    """Digest of ``audit.json``."""
    runs: int
    events: int
    """What the clone that made it says besides; the harness's word."""


def sealed_files(
    audit: Audit, clone: CloneAudit, signer: Signer, trusted: Sequence[Trusted], folder: Path
) -> dict[str, bytes]:
    """Every file by name; a signature that lies in ``folder`` and holds is taken over.

    Raises:
        InvalidInput, InfrastructureFailure: as `adopt_or_seal`.
    """
    files = {AUDIT_FILE: canonical_json(audit), CLONE_FILE: canonical_json(clone), PAGE_FILE: audit_page(audit, clone)}
    for name, bundle, kind in _SEALED:
        existing = (folder / bundle).read_bytes() if (folder / bundle).is_file() else None
        signed_statement = statement(name, files[name], kind, _predicate(audit))
        files[bundle] = adopt_or_seal(existing, signed_statement, signer, trusted)
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write them; an audit is immutable, so none is written over another.

    Raises:
        InvalidInput: ``file-exists``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name
        if path.exists() and path.read_bytes() != data:
            raise InvalidInput(
                "file-exists", f"{path} holds another audit", "Name a folder of its own for each.", path=str(path)
            )
    for name, data in files.items():
        if not (folder / name).exists():
            write_atomically(folder / name, data)


def check_audit(git: Git, main: GovernedState, log: Sequence[Commit], root: str, folder: Path) -> CheckedAudit:
    """Hold an audit against a main that was verified: whose it is, and each byte of it.

    Its signature counts by the keys that main had at the end of its range, or has now. What it says is made again from
    main, so nothing can be left out or added, whoever signed; nor may another file lie beside its own.

    Raises:
        InvalidInput: ``bad-path``.
        IntegrityFailure: ``audit-does-not-hold``, ``bad-file``; as `unseal`.
    """
    files = {
        name: _read(folder / name) for name in (AUDIT_FILE, AUDIT_SIGNATURE, CLONE_FILE, CLONE_SIGNATURE, PAGE_FILE)
    }
    beside = sorted({path.name for path in folder.iterdir()} - files.keys())
    if beside:
        raise _does_not_hold(f"has a file {beside[0][:64]!a} beside it, which no seal covers")
    audit = parse_canonical(AUDIT_FILE, files[AUDIT_FILE], Audit)
    if audit.repository != main.policy.repository:
        raise _does_not_hold(f"is of another repository, {audit.repository}")
    if audit.root != root:
        raise _does_not_hold("begins at another governance root")
    line = {commit.id for commit in log}
    if not {audit.main_before, audit.main_after} <= line:
        raise _does_not_hold("speaks of commits that are not on this main")
    then = read_governed_state(git, audit.main_after)
    trusted = tuple(dict.fromkeys((*then.trusted, *main.trusted))) + then.workflows + main.workflows
    for name, bundle, kind in _SEALED:
        if unseal(files[bundle], trusted, files[name], kind) != _predicate(audit):
            raise _does_not_hold(f"has a signature of {name} that speaks of another time or repository")
    recomputed = audit_of(git, log, root, audit.since, audit.until)
    if recomputed != audit:
        raise _does_not_hold(_difference(audit, recomputed))
    clone = parse_canonical(CLONE_FILE, files[CLONE_FILE], CloneAudit)
    stated = (clone.repository, clone.audit, clone.since, clone.until)
    if stated != (audit.repository, sha256(files[AUDIT_FILE]), audit.since, audit.until):
        raise _does_not_hold(f"has a {CLONE_FILE} that belongs to another audit")
    if audit_page(audit, clone) != files[PAGE_FILE]:
        raise _does_not_hold(f"has a {PAGE_FILE} that says something else than its JSON")
    return CheckedAudit(
        repository=audit.repository,
        since=audit.since,
        until=audit.until,
        changes=len(audit.changes),
        approvals=sum(len(change.approvals) for change in audit.changes),
        digest=sha256(files[AUDIT_FILE]),
        runs=len(clone.runs),
        events=len(clone.events),
    )


_SEALED: Final = ((AUDIT_FILE, AUDIT_SIGNATURE, AUDIT_TYPE), (CLONE_FILE, CLONE_SIGNATURE, CLONE_TYPE))


def _predicate(audit: Audit) -> dict[str, str]:
    fields = audit.model_dump(mode="json", include={"repository", "root", "since", "until"})
    return {name: str(value) for name, value in fields.items()}


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InvalidInput(
            "bad-path", f"{path} is no file", "Name the folder that `modelsmith audit --out` wrote.", path=str(path)
        )
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise _does_not_hold(f"has a {path.name} of more than {LARGEST} bytes")
    return data


def _difference(audit: Audit, recomputed: Audit) -> str:
    """The first thing that an audit tells otherwise than main."""
    by_commit, due = ({entry.commit: entry for entry in side.changes} for side in (audit, recomputed))
    for commit, change in due.items():
        if commit not in by_commit:
            return f"leaves out pull request {change.pull}"
        approvals = {approval.actor for approval in change.approvals} ^ {
            approval.actor for approval in by_commit[commit].approvals
        }
        if approvals:
            return f"tells of other approvals of pull request {change.pull}: {min(approvals)}"
        if by_commit[commit] != change:
            return f"tells pull request {change.pull} otherwise than main"
    extra = next((audited.pull for commit, audited in by_commit.items() if commit not in due), None)
    return f"tells of pull request {extra}, which main did not merge then" if extra else "names other keys than main"


def _does_not_hold(problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "audit-does-not-hold",
        f"The audit {problem}",
        "Do not rely on it; make one anew with `modelsmith audit` from a main that verifies.",
    )
