"""Receipts: what decided a merge, where it lies, and that equal decisions give equal bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from modelsmith.governance.gate import CheckResult, GateDecision
from modelsmith.promotion.receipts import Merged, receipt_files, receipts_folder
from modelsmith.promotion.verify import authenticate
from modelsmith.repository.load import load_machine_file
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure
from modelsmith.schema.promotion import Receipt
from modelsmith.schema.pull import Change, ChangedPath, PullRequest, Review, SignedApproval

AT = datetime(2026, 1, 1, tzinfo=UTC)
MERGED = Merged("c" * 40, "smith", AT)
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


def decision(*approvals):
    checks = (CheckResult("record", True, "fine"),)
    approvers = tuple(approval.actor for approval in approvals)
    return GateDecision(True, "people", (), approvers, approvals, (), (), checks, ())


def receipts(pull, change, decided):
    """Receipts of a merge in which every approval is signed."""
    return receipt_files(pull, change, decided, MERGED, lambda payload: b"signed " + payload)


def test_a_promotion_keeps_its_receipts_in_its_own_folder():
    assert receipts_folder(change_of(f"{FOLDER}/record.json"), 7) == f"{FOLDER}/receipts"


@pytest.mark.parametrize("path", ["evals/a.yaml", "README.md", "promotions/README.md"])
def test_any_other_change_keeps_receipts_with_governance_by_its_number(path):
    change = change_of(path)
    folder = receipts_folder(change, 7)
    assert folder == f".github/governance/receipts/7-{change.digest()[7:23]}"
    assert folder != receipts_folder(change_of(path, "more.md"), 7)
    assert folder != receipts_folder(change, 9), "merged, reverted and proposed again is decided again"


def test_only_approvals_that_counted_are_kept():
    change, other = change_of("evals/a.yaml"), change_of("evals/b.yaml")
    maya = review("maya", change)
    pull = pull_of(maya, review("noor", other), review("oli", change))
    files = receipts(pull, change, decision(maya))
    folder = receipts_folder(change, 7)
    assert files.keys() == {
        f"{folder}/{name}" for name in ("approval-maya.json", "approval-maya.json.sig", "merge.json", "merge.json.sig")
    }
    receipt = Receipt.model_validate_json(files[f"{folder}/merge.json"])
    assert receipt.approvals == {"maya": "approval-maya.json"}
    assert (receipt.pull, receipt.requested_by, receipt.prepared_by, receipt.checks) == (
        7,
        "dana",
        "smith",
        ("record",),
    )
    assert (receipt.merge, receipt.merged_by, receipt.at) == MERGED
    assert canonical_json(receipt) == files[f"{folder}/merge.json"]
    assert files[f"{folder}/merge.json.sig"] == b"signed " + canonical_json(receipt)


@pytest.mark.parametrize("hidden", ["\u200e", "\u2028", "\U00016fe4", "\u0378"])
def test_no_merge_writes_what_verify_could_not_read(hidden):
    """Main keeps a receipt for ever, so it is refused while it can still be."""
    change = change_of("evals/a.yaml")
    maya = review("maya", change, f"signed for desk{hidden}-repository")
    with pytest.raises(GateNotCleared, match=r"approval-maya\.json would hold U\+"):
        receipts(pull_of(maya), change, decision(maya))


def test_the_approval_that_counted_is_the_receipt_not_another_of_theirs():
    change = change_of("evals/a.yaml")
    first = review("maya", change, "first")
    files = receipts(pull_of(first, review("maya", change, "second")), change, decision(first))
    assert files[f"{receipts_folder(change, 7)}/approval-maya.json"] == b"maya first"


def test_the_same_decision_gives_the_same_bytes():
    change = change_of("evals/a.yaml")
    first, again = (receipts(pull_of(r), change, decision(r)) for r in (review("maya", change), review("maya", change)))
    assert first == again


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
