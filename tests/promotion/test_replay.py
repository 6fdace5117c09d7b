"""Replay: every step of main is judged by the rules and keys that main had before it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from promotion.replays import PEOPLE, PETRA, merged_in_between, receipts_of, with_key_of_petra

from modelsmith.governance.states import record_folder
from modelsmith.promotion.verify import replay
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure
from modelsmith.schema.progress import silent
from modelsmith.signing.ssh import public_key

from .conftest import AT, WHO, candidate, signed_again


def replayed(repository, changed, notify=silent):
    """The replay of main from the repository's first commit to where it is here."""
    with ObjectReader(repository.git.path) as reader:
        return replay(reader, repository.tip, reader.first_parent_log(changed.tip)[1:], notify, datetime.now(UTC))


def refusal(repository, changed):
    with pytest.raises(IntegrityFailure) as refused:
        replayed(repository, changed)
    assert refused.value.code == "history-does-not-hold"
    return refused.value


def test_promotions_and_approved_changes_hold_and_are_counted(repository):
    messages = []
    grown = repository.merge(candidate(repository, 1), number=1)
    grown = grown.merge({"docs/note.md": b"x"}, [PETRA], number=2)
    grown = grown.merge(candidate(grown, 2), number=3)
    result = replayed(repository, grown, messages.append)
    assert (result.changes, result.promotions, result.approvals) == (3, 2, 1)
    assert result.main.tree.commit == grown.tip
    assert result.main.histories == grown.main.histories
    assert [(progress.done, progress.total) for progress in messages] == [(2, 6), (4, 6), (6, 6)]


def test_a_key_that_its_owners_approved_works_from_then_on_the_former_not(repository):
    rotated = repository.merge(with_key_of_petra(repository, "petra-new"), [PETRA], number=1)
    after = rotated.merge({"docs/note.md": b"x"}, [("petra", "petra-new")], number=2)
    assert replayed(repository, after).approvals == 2

    former = rotated.merge({"docs/note.md": b"x"}, [PETRA], number=2, smuggled=True)
    refused = refusal(repository, former)
    assert "a key that nobody here holds" in refused.message
    assert refused.details["cause"] == "unknown-key"
    before = repository.merge({"docs/note.md": b"x"}, [PETRA], number=1)
    after_rotation = before.merge(with_key_of_petra(before, "petra-new"), [PETRA], number=2)
    assert replayed(repository, after_rotation).approvals == 2, "what the former key signed before stays"


@pytest.mark.parametrize(
    ("approvals", "words"),
    [
        ([], "@platform is missing"),
        ([("mallory", "mallory")], "a key that nobody here holds"),
        ([("maya", "maya")], "@platform is missing"),
    ],
)
def test_the_same_key_smuggled_in_is_refused_and_named(repository, approvals, words):
    files = with_key_of_petra(repository, "mallory")
    smuggled = repository.merge(files, approvals, number=1, smuggled=True)
    after = smuggled.merge({"docs/note.md": b"x"}, [("petra", "mallory")], number=2)
    refused = refusal(repository, after)
    assert refused.details["commit"] == smuggled.git.text("rev-parse", f"{smuggled.tip}^")
    place = PEOPLE if words == "@platform is missing" else ".github/governance/receipts/"
    assert refused.details["path"].startswith(place)
    assert words in refused.message


def test_a_change_merged_reverted_and_proposed_again_is_its_own_decision(repository):
    once = repository.merge({"docs/note.md": b"x"}, [PETRA], number=1)
    twice = once.merge({"docs/note.md": None}, [PETRA], number=2).merge({"docs/note.md": b"x"}, [PETRA], number=3)
    thrice = twice.merge({"docs/note.md": None}, [PETRA], number=4).merge({"docs/note.md": b"x"}, [PETRA], number=5)
    assert replayed(repository, thrice).changes == 5


def test_receipts_in_the_place_of_another_decision_are_refused(repository):
    once = repository.merge({"docs/note.md": b"x"}, [PETRA], number=1)
    twice = once.merge({"docs/note.md": None}, [PETRA], number=2).merge({"docs/note.md": b"x"}, [PETRA], number=3)
    git, folder = repository.git, ".github/governance/receipts/"
    mine = {p: e for p, e in git.list_tree(twice.tip, folder.rstrip("/")).items() if p.split("/")[3].startswith("3-")}
    assert mine
    moved = {path.replace("/3-", "/4-"): git.read_blob(blob) for path, (_, blob) in mine.items()}
    tip = git.commit_files(f"{twice.tip}^", moved, "Receipts of 3\n", WHO)
    assert "another folder" in refusal(repository, replace(twice, tip=tip)).message


def test_a_signature_by_the_key_that_the_change_itself_brings_is_refused(repository):
    files = with_key_of_petra(repository, "mallory")
    refused = refusal(repository, repository.merge(files, [("petra", "mallory")], smuggled=True))
    assert refused.details["cause"] == "unknown-key"
    assert refused.details["path"].startswith(".github/governance/receipts/")


def test_a_change_that_brings_its_own_approver_is_refused(repository):
    people = repository.main.tree.read(PEOPLE)
    key = public_key(repository.people / "mallory.pub").encode()
    entry = b"people:\n  - {id: mallory, name: mallory, roles: [platform], keys: [{key: %s}]}\n" % key
    files = {PEOPLE: people.replace(b"people:\n", entry, 1)}
    refused = refusal(repository, repository.merge(files, [("mallory", "mallory")], smuggled=True))
    assert refused.details["cause"] == "unknown-key"


def test_governance_may_not_change_together_with_what_it_governs(repository):
    files = with_key_of_petra(repository, "petra-new") | {"clusters/defaults.yaml": b"{}\n"}
    refused = refusal(repository, repository.merge(files, [PETRA], smuggled=True))
    assert "never mixed with what is governed" in refused.message


def test_a_promotion_that_does_not_follow_names_its_folder(repository):
    files = candidate(repository, 1)
    (record,) = (path for path in files if path.endswith("record.json"))
    folder = record.rpartition("/")[0]
    forged = files | {f"{folder}/extra.md": b"x"}
    refused = refusal(repository, repository.merge(forged, smuggled=True))
    assert (refused.details["path"], "other files" in refused.message) == (folder, True)


def with_receipts(repository, files):
    """Main with these receipts instead, the receipt of the merge signed again by the harness."""
    merge = repository.git.text("rev-parse", f"{repository.tip}^")
    files = signed_again(files, repository.key.with_name("harness-ssh"))
    return replace(repository, tip=repository.git.commit_files(merge, files, "Receipts\n", WHO))


def test_another_merge_may_come_before_the_receipts_of_one(repository):
    two, missing = merged_in_between(repository)
    whole = two.commit(missing)
    result = replayed(repository, whole)
    assert (result.changes, result.promotions, result.approvals) == (2, 1, 1)
    assert result.main.tree.commit == whole.tip
    other_order = replace(two, tip=two.git.text("rev-parse", f"{two.tip}^")).commit(missing).commit(receipts_of(two))
    assert replayed(repository, other_order).changes == 2
    assert replayed(repository, whole.merge({"docs/more.md": b"x"}, [PETRA], number=3)).changes == 3


def test_no_merge_goes_without_receipts_whatever_comes_in_between(repository):
    two, missing = merged_in_between(repository)
    first, second = (two.git.text("rev-parse", f"{two.tip}~{back}") for back in (2, 1))
    never = refusal(repository, replace(two, tip=second).commit(missing))
    assert ("without receipts" in never.message, never.details["commit"]) == (True, second)
    lost = refusal(repository, two)
    assert (lost.details["commit"], lost.details["cause"]) == (first, "broken-step")
    whole = two.commit(missing)
    stray = whole.commit({path.replace("iter-001", "iter-009"): data for path, data in missing.items()})
    assert refusal(repository, stray).details["commit"] == stray.tip


def test_who_merges_in_between_gets_no_other_clock(repository):
    """Else receipts that come late would let what follows be dated before them, and revive a key that has ended."""
    late, missing = merged_in_between(repository, late=AT + timedelta(hours=1))
    assert "comes after a merge at" in refusal(repository, late.commit(missing)).message


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda name, data: {name: None}, "no receipt of its merge"),
        (lambda name, data: {name: b"not json"}, "not of type Receipt"),
        (lambda name, data: {name: data + b"\n"}, "not canonical"),
        (lambda name, data: {name: data, "evals/x.md": b"x"}, "other files than its receipts"),
        (lambda name, data: {name: data, f"{name}.more": b"x"}, "other files than its receipts"),
        (lambda name, data: {name: _edited(data, change="sha256:" + "1" * 64)}, "not the change"),
        (lambda name, data: {name: _edited(data, approvals={"maya": "approval-maya.json"})}, "other files than"),
        (lambda name, data: {name: _edited(data, prepared_by="petra")}, "not who its receipts say"),
        (lambda name, data: {name: _edited(data, requested_by="petra")}, "not who its receipts say"),
        (lambda name, data: {name: _edited(data, pull=7)}, "not who its receipts say"),
    ],
)
def test_receipts_are_exactly_what_decided_the_merge(repository, tamper, said):
    merged = repository.merge(candidate(repository, 1))
    files = receipts_of(merged)
    name = next(path for path in files if path.endswith("/merge.json"))
    refused = refusal(repository, with_receipts(merged, files | tamper(name, files[name])))
    assert said in refused.message
    assert refused.details["commit"] == merged.git.text("rev-parse", f"{merged.tip}^")


@pytest.mark.parametrize(
    ("missing", "said"), [((".json", ".json.sig"), "nobody has signed"), ((".json.sig",), "other")]
)
def test_a_merge_that_nobody_signed_for_is_refused(repository, missing, said):
    merged = repository.merge(candidate(repository, 1))
    files = receipts_of(merged)
    receipts_left = {
        path: data for path, data in files.items() if not path.endswith(tuple(f"/opened{end}" for end in missing))
    }
    assert len(receipts_left) < len(files)
    assert said in refusal(repository, with_receipts(merged, receipts_left)).message


def test_an_opening_in_another_s_name_or_of_another_proposal_is_refused(repository):
    merged = repository.merge(candidate(repository, 1))
    other = receipts_of(repository.merge(candidate(repository, 2)))
    files = receipts_of(merged)
    moved = {path: next(d for o, d in other.items() if o.endswith(path.rpartition("/")[2])) for path in files}
    openings = {path: data for path, data in moved.items() if "/opened.json" in path}
    assert "not who its receipts say" in refusal(repository, with_receipts(merged, files | openings)).message
    (path,) = (path for path in files if path.endswith("/opened.json"))
    edited = files | {path: _edited(files[path], actor="petra")}
    assert refusal(repository, with_receipts(merged, edited)).details["cause"] == "bad-signature"


def _edited(data, **fields):
    return canonical_json(json.loads(data) | fields)


def test_receipts_of_someone_whose_approval_was_not_needed_are_refused(repository):
    merged = repository.merge({"docs/note.md": b"x"}, [PETRA])
    files = receipts_of(merged)
    folder = next(iter(files)).rpartition("/")[0]
    git = merged.git
    change = git.change(repository.tip, f"{merged.tip}^")
    proof = repository.review(change, 1, "maya", "maya", AT).proof
    files[f"{folder}/approval-maya.json"] = proof.statement.encode()
    files[f"{folder}/approval-maya.json.sig"] = proof.signature.encode()
    approvals = {"petra": "approval-petra.json", "maya": "approval-maya.json"}
    files[f"{folder}/merge.json"] = _edited(files[f"{folder}/merge.json"], approvals=approvals)
    refused = refusal(repository, with_receipts(merged, files))
    assert ("do not count" in refused.message, refused.details["path"]) == (True, folder)


def test_a_commit_without_pull_request_is_named_wherever_it_stands(repository):
    changed = repository.merge(candidate(repository, 1)).commit({"notes.md": b"quick fix"})
    direct = changed.tip
    changed = changed.merge(candidate(changed, 2), number=2)
    assert refusal(repository, changed).details["commit"] == direct
    removed = repository.merge(candidate(repository, 1))
    folder = record_folder(removed.main.histories.find(removed.draft(1).specialist).records[0])
    removed = removed.commit({f"{folder}/record.json": None})
    assert refusal(repository, removed).details["commit"] == removed.tip


def test_nothing_is_said_about_history_when_the_tools_fail(repository, monkeypatch):
    """Where the library knows no Ed25519, ``ssh-keygen`` has the word."""
    unknown = MagicMock(side_effect=UnsupportedAlgorithm("Ed25519"))
    monkeypatch.setattr("modelsmith.signing.ssh.is_plainly_signed", unknown)
    merged = repository.merge({"docs/note.md": b"x"}, [PETRA])

    run = subprocess.run

    def missing(command, **more):
        if command[0] == "ssh-keygen":
            raise FileNotFoundError
        return run(command, **more)

    with ObjectReader(repository.git.path) as reader:
        log = reader.first_parent_log(merged.tip)[1:]
        monkeypatch.setattr("modelsmith.signing.ssh.subprocess.run", missing)
        with pytest.raises(InfrastructureFailure) as failed:
            replay(reader, repository.tip, log, silent, datetime.now(UTC))
    assert failed.value.code == "missing-ssh-keygen"
