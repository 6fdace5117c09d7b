"""Replay of main from its governance root, offline, in a plain clone. Trusts no hook, merge commit or summary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from modelsmith.artifacts.seal import check, check_signed
from modelsmith.artifacts.store import Store
from modelsmith.governance.people import allowed_keys
from modelsmith.governance.states import record_folder
from modelsmith.promotion.judge import commit_authors, judge_tree
from modelsmith.promotion.main import Main, read_main
from modelsmith.promotion.receipts import MERGE_RECEIPT, receipts_folder
from modelsmith.promotion.root import governance_fingerprint
from modelsmith.repository.git import Commit, Git
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.governance import People
from modelsmith.schema.progress import Notify, Progress
from modelsmith.schema.promotion import APPROVAL_NAMESPACE, Approval, Receipt
from modelsmith.schema.pull import Change, Review, SignedApproval
from modelsmith.signing import ssh


@dataclass
class Replay:
    """What was found. The first thing that does not hold ends the replay."""

    root: str
    """Fingerprint of the governance root that the replay started from."""
    start: str
    tip: str
    commits: int = 0
    changes: int = 0
    promotions: int = 0
    approvals: int = 0
    weights: dict[str, str] = field(default_factory=dict)
    """Specialist -> ``checked`` or ``not checked``."""


def replay(git: Git, tip: str, root: str | None, notify: Notify) -> Replay:
    """Judge every step of main again, by the rules and keys that main had before it.

    Raises:
        IntegrityFailure: the first step that does not hold, with its commit in ``details``; ``unknown-root`` when no
            commit has the pinned fingerprint.
    """
    log = git.first_parent_log(tip)
    start = _start(git, log, root)
    main = read_main(git, log[start].id)
    result = Replay(root=governance_fingerprint(main.tree), start=main.tree.commit, tip=tip)
    steps = log[start + 1 :]
    at = 0
    while at < len(steps):
        change_commit = steps[at]
        receipts_commit = steps[at + 1] if at + 1 < len(steps) else None
        try:
            main = _step(git, main, change_commit, receipts_commit, result)
        except ModelsmithError as error:
            raise _does_not_hold(change_commit, error.message, error.code) from None
        except ValueError:
            raise _does_not_hold(change_commit, "holds a receipt that cannot be read", "bad-receipt") from None
        at += 2
        result.commits += 2
        notify(Progress("verify", change_commit.subject, at, len(steps)))
    return result


def _start(git: Git, log: list[Commit], root: str | None) -> int:
    if root is None:
        return 0
    for index, commit in enumerate(log):
        tree = Revision(git, commit.id)
        if tree.exists(".github/governance/policy.yaml") and governance_fingerprint(tree) == root:
            return index
    raise IntegrityFailure(
        "unknown-root",
        "No commit of main has the pinned governance root",
        "Check the fingerprint with whoever gave it to you; if it is right, do not trust this repository.",
        root=root,
    )


def _step(git: Git, main: Main, step: Commit, receipts: Commit | None, result: Replay) -> Main:
    """One change of main with the receipts that follow it."""
    if step.parents[0] != main.tree.commit or len(step.parents) > 2:
        _broken("is not a change of the commit before it")
    if receipts is None or receipts.parents != (step.id,):
        _broken("changed main without receipts: no pull request stands behind it")
    change = git.change(main.tree.commit, step.id)
    folder = receipts_folder(change)
    after = Revision(git, receipts.id)
    receipt = _receipt(after, folder)
    _only_receipts(git, step, receipts, folder, receipt)
    if receipt.change != change.digest():
        _broken("is not the change that its receipts speak of")
    reviews = list(_reviews(main, after, folder, receipt))
    authors = commit_authors(git, main.tree.commit, step.parents[1]) if len(step.parents) == 2 else []
    judgement = judge_tree(
        git, main, step.tree,
        reviews=reviews, requester=receipt.requested_by, preparer=receipt.prepared_by, authors=authors,
    )  # fmt: skip
    decision = judgement.decision
    if not decision.open:
        reasons = [refusal.sentence for refusal in decision.refusals]
        reasons += [f"the approval of {owner} is missing" for owner in decision.waiting_for]
        _broken(f"does not pass its gate: {'; '.join(reasons)}")
    if set(receipt.approvals) != set(decision.approvers):
        _broken("has receipts of approvals that do not count")
    result.changes += 1
    result.approvals += len(reviews)
    result.promotions += _is_promotion(change)
    return read_main(git, receipts.id)


def _is_promotion(change: Change) -> bool:
    return any(path.path.startswith("promotions/") for path in change.paths)


def _receipt(tree: Revision, folder: str) -> Receipt:
    path = f"{folder}/{MERGE_RECEIPT}"
    if not tree.exists(path):
        _broken("has no receipt of its merge")
    data = tree.read(path)
    receipt = Receipt.model_validate_json(data)
    if canonical_json(receipt) != data:
        _broken("has a receipt that is not canonical JSON")
    return receipt


def _only_receipts(git: Git, step: Commit, receipts: Commit, folder: str, receipt: Receipt) -> None:
    """The receipts commit adds what the receipt names, and nothing else."""
    names = {MERGE_RECEIPT, *receipt.approvals.values(), *(f"{name}.sig" for name in receipt.approvals.values())}
    added = git.change(step.id, receipts.id).paths
    if {path.path for path in added} != {f"{folder}/{name}" for name in names}:
        _broken("is followed by a commit that holds other files than its receipts")
    if any(path.old_mode != "000000" or path.new_mode != "100644" for path in added):
        _broken("is followed by a commit that changes receipts")


def _reviews(main: Main, after: Revision, folder: str, receipt: Receipt) -> Iterator[Review]:
    for actor, name in receipt.approvals.items():
        statement = after.read(f"{folder}/{name}").decode()
        signature = after.read(f"{folder}/{name}.sig").decode()
        review = authenticate(
            SignedApproval(statement=statement, signature=signature),
            main.people, main.policy.repository, receipt.pull,
        )  # fmt: skip
        if review.actor != actor:
            _broken(f"has a receipt of {actor} that {review.actor} signed")
        yield review


def authenticate(signed: SignedApproval, people: People, repository: str, pull: int) -> Review:
    """The verdict that a receipt holds, if its signature, repository and pull request are right.

    Raises:
        IntegrityFailure: ``broken-step``, or as `ssh.verify`.
    """
    payload = signed.statement.encode()
    approval = Approval.model_validate_json(payload)
    keys = [ssh.AllowedKey(*key) for key in allowed_keys(people, approval.at)]
    signer = ssh.verify(payload, signed.signature, APPROVAL_NAMESPACE, keys, approval.at)
    if signer != approval.actor or canonical_json(approval) != payload:
        _broken(f"has an approval in the name of {approval.actor} that {signer} signed")
    if (approval.repository, approval.pull) != (repository, pull):
        _broken("has an approval of another pull request or repository")
    return Review(
        actor=signer,
        verdict=approval.verdict,
        change=approval.change,
        at=approval.at,
        reason=approval.reason,
        proof=signed,
    )


def check_weights(main: Main, stores: dict[str, Path], specialists: frozenset[str]) -> dict[str, str]:
    """Check these specialists' sealed artifacts where they are at hand; ``stores`` gives each cluster's store folder.

    Raises:
        IntegrityFailure: an artifact differs from its id or signature, or is missing where policy requires it.
    """
    found: dict[str, str] = {}
    for name in sorted(specialists):
        life = main.history.lives[name]
        artifact = Store(stores[life.cluster]).get(life.artifact)
        if artifact is None:
            if main.policy.require_weights:
                raise IntegrityFailure(
                    "weights-missing", f"The weights of {name} are not in the store", "Fetch them into the store."
                )
            found[name] = "not checked"
            continue
        exported = next((r for r in life.records if r.event == "artifact-exported"), None)
        if exported:
            signed = main.tree.read(f"{record_folder(exported)}/model.sig")
            if (artifact / "model.sig").read_bytes() != signed:
                raise IntegrityFailure(
                    "signature-differs", f"{name} carries another signature than main", "Restore model.sig from main."
                )
            check_signed(artifact, life.artifact, main.trusted)
        else:
            check(artifact, life.artifact)
        found[name] = "checked"
    return found


def _does_not_hold(commit: Commit, why: str, cause: str) -> IntegrityFailure:
    return IntegrityFailure(
        "history-does-not-hold",
        f"Commit {commit.id[:12]} ({commit.subject}): {why}",
        "Do not trust main from here on; compare with a clone that verifies.",
        commit=commit.id,
        cause=cause,
    )


def _broken(what: str) -> NoReturn:
    raise IntegrityFailure("broken-step", what, "Compare with a clone that verifies.")
