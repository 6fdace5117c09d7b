"""Receipts: what decided a merge, where it lies, and that equal decisions give equal bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from modelsmith.governance.gate import CheckResult, GateDecision
from modelsmith.promotion.receipts import receipt_files, receipts_folder
from modelsmith.promotion.root import governance_fingerprint
from modelsmith.promotion.verify import authenticate
from modelsmith.repository.load import load_machine_file
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import Receipt
from modelsmith.schema.pull import Change, ChangedPath, PullRequest, Review, SignedApproval

AT = datetime(2026, 1, 1, tzinfo=UTC)
FOLDER = "promotions/rtb-pricing/iter-001-00000000/04-customer-deployed"


def change_of(*paths):
    return Change(
        paths=tuple(
            ChangedPath(path=path, old_mode="000000", new_mode="100644", old_blob="0" * 40, new_blob="1" * 40)
            for path in paths
        )
    )


def review(actor, change, proof="signed"):
    signed = SignedApproval(statement=f"{actor} {proof}", signature="signature")
    return Review(actor=actor, verdict="approve", change=change.digest(), at=AT, reason="", proof=signed)


def pull_of(*reviews):
    return PullRequest(
        number=7, status="open", branch="b", title="t", body="", requester="dana", preparer="smith", head="a" * 40,
        base="b" * 40, reviews=reviews, merge=None, opened_at=AT,
    )  # fmt: skip


def decision(*approvers):
    checks = (CheckResult("record", True, "fine"),)
    return GateDecision(True, "people", (), tuple(approvers), (), (), checks)


def test_a_promotion_keeps_its_receipts_in_its_own_folder():
    assert receipts_folder(change_of(f"{FOLDER}/record.json")) == f"{FOLDER}/receipts"


@pytest.mark.parametrize("path", ["evals/a.yaml", "README.md", "promotions/README.md"])
def test_any_other_change_keeps_them_with_governance_under_its_own_digest(path):
    change = change_of(path)
    folder = receipts_folder(change)
    assert folder == f".github/governance/receipts/{change.digest()[7:23]}"
    assert folder != receipts_folder(change_of(path, "more.md"))


def test_only_approvals_of_this_change_that_counted_are_kept():
    change, other = change_of("evals/a.yaml"), change_of("evals/b.yaml")
    pull = pull_of(review("maya", change), review("noor", other), review("oli", change))
    files = receipt_files(pull, change, decision("maya", "noor"))
    folder = receipts_folder(change)
    assert files.keys() == {
        f"{folder}/{name}" for name in ("approval-maya.json", "approval-maya.json.sig", "merge.json")
    }
    receipt = Receipt.model_validate_json(files[f"{folder}/merge.json"])
    assert receipt.approvals == {"maya": "approval-maya.json"}
    assert (receipt.pull, receipt.requested_by, receipt.prepared_by, receipt.checks) == (
        7,
        "dana",
        "smith",
        ("record",),
    )
    assert canonical_json(receipt) == files[f"{folder}/merge.json"]


def test_the_last_of_several_approvals_of_one_person_is_the_receipt():
    change = change_of("evals/a.yaml")
    pull = pull_of(review("maya", change, "first"), review("maya", change, "second"))
    files = receipt_files(pull, change, decision("maya"))
    assert files[f"{receipts_folder(change)}/approval-maya.json"] == b"maya second"


def test_the_same_decision_gives_the_same_bytes():
    change = change_of("evals/a.yaml")
    assert receipt_files(pull_of(review("maya", change)), change, decision("maya")) == receipt_files(
        pull_of(review("maya", change)), change, decision("maya")
    )


def test_the_root_changes_with_every_rule_and_key_and_with_nothing_else(repository):
    root = governance_fingerprint(repository.main.tree)
    for path in (".github/CODEOWNERS", ".github/governance/policy.yaml", ".github/governance/trust/harness.pem"):
        text = repository.main.tree.read(path) + b"\n"
        assert governance_fingerprint(repository.proposed({path: text})[0]) != root
    assert governance_fingerprint(repository.proposed({"notes.md": b"x"})[0]) == root


@pytest.mark.parametrize("data", [b"", b"null", b"\xff", b"[" * 100_000, b'{"pull":' + b"1" * 30 + b"}"])
def test_a_receipt_that_cannot_be_read_is_an_integrity_failure(repository, data):
    path = f"{FOLDER}/receipts/merge.json"
    with pytest.raises(IntegrityFailure) as caught:
        load_machine_file(repository.proposed({path: data})[0], path, Receipt)
    assert (caught.value.code, caught.value.details["path"]) == ("bad-file", path)


@pytest.mark.parametrize("statement", ["", "{}", "[" * 100_000, '{"actor":"maya"}'])
def test_a_receipt_of_what_is_no_approval_is_an_integrity_failure(repository, statement):
    with pytest.raises(IntegrityFailure) as caught:
        authenticate(SignedApproval(statement=statement, signature="x"), repository.main.people, "repository", 1)
    assert caught.value.code == "bad-file"
