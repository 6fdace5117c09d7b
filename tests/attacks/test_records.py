"""Attacks on a specialist's history: states skipped, repeated, raced for, and records that are not what they say."""

from __future__ import annotations

import json

import pytest
from attacker import CLUSTER, HARNESS, PEOPLE_FILE, POLICY, ROUTING, RUBRIC, SET, refused

from modelsmith.governance.states import record_folder
from modelsmith.promotion.records import next_record
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import PromotionRecord
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.keys import create_signing_key

OTHER = "sha256:" + "1" * 64


def fooled(world, head, number=9):
    """On main past everything, with an approval of the one who was talked into it."""
    signed = world.sign_with("maya", world.statement("maya", number, head))
    return world.force(head, [world.review("maya", signed)], pull=number)


def test_the_due_record_passes(waiting):
    """The control of this file: prepared again by hand, signed with the harness's key and approved, it holds."""
    fooled(waiting, waiting.commit(waiting.next_files("customer-deployed")))
    assert waiting.holds().promotions == 4


LIES = {
    "a state skipped": {"event": "production-validated", "to_state": "production-validated"},
    "a state skipped by name": {"event": "production-validated", "from_state": "customer-deployed",
                                "to_state": "production-validated"},
    "a state repeated": {"event": "artifact-exported", "from_state": "eval-accepted", "to_state": "artifact-exported"},
    "the beginning repeated": {"event": "candidate", "from_state": None, "to_state": "candidate"},
    "a number skipped": {"sequence": 5},
    "a number repeated": {"sequence": 3},
    "another target": {"to_state": "production-validated"},
    "another artifact": {"artifact": OTHER},
    "another run": {"eval_run": OTHER},
    "a better composite": {"composite": 0.999},
    "no eval at all": {"eval_run": None, "eval_tag": None, "composite": None},
    "another iteration": {"iteration": 2},
    "another policy": {"policy": OTHER},
    "no approver needed": {"required_approvers": []},
    "an easier approver": {"required_approvers": ["platform"]},
    "no rollback contract": {"rollback": None},
    "another past": {"previous_record": OTHER},
    "no past": {"previous_record": None},
    "other receipts": {"previous_receipts": {"merge.json": OTHER}},
    "no receipts": {"previous_receipts": {}},
    "another past of the traffic": {"expected_previous": OTHER},
    "evidence that is not there": {"evidence": {"evidence.json": OTHER}},
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_record_that_does_not_follow_is_found_although_approved(waiting, name):
    """Signed by the harness, approved by the owner, and still not the next thing that may happen."""
    files = waiting.next_files("customer-deployed", **LIES[name])
    waiting.detected(fooled(waiting, waiting.commit(files)))


def test_a_contract_with_a_better_past_is_found(waiting):
    """The rollback contract is derived from main: it cannot promise to return to something else."""
    honest = json.loads(
        next(d for p, d in waiting.next_files("customer-deployed").items() if p.endswith("record.json"))
    )
    contract = {**honest["rollback"], "prior_specialist": "iter-007-00000000"}
    files = waiting.next_files("customer-deployed", rollback=contract)
    waiting.detected(fooled(waiting, waiting.commit(files)))


def test_a_specialist_s_history_cannot_be_told_twice(deployed):
    """Deployed already, it is not deployed again."""
    record = deployed.governed().histories.find(deployed.draft().specialist).records[-1]
    again = record.model_copy(update={"sequence": 5})
    contents = {name: deployed.governed().tree.read(f"{record_folder(record)}/{name}") for name in record.evidence}
    files = deployed.record_files(again, contents)
    deployed.detected(fooled(deployed, deployed.commit(files)))


def test_another_cluster_s_specialist_cannot_be_taken_over(waiting):
    """A specialist belongs to the cluster that trained it."""
    tree = waiting.governed().tree
    mine = f"clusters/{CLUSTER}/cluster.yaml"
    other = tree.read(mine).replace(b"cluster: rtb-pricing", b"cluster: other")
    waiting.force_honestly({"clusters/other/cluster.yaml": other}, "maya")
    files = waiting.next_files("customer-deployed", cluster="other")
    waiting.detected(fooled(waiting, waiting.commit(files)), "another cluster")


MORE = {
    "a rubric": {RUBRIC: b"id: root-cause\n"},
    "people": {PEOPLE_FILE: b"roles: {}\n"},
    "the policy": {POLICY: b"repository: x\n"},
    "another route": {f"clusters/{CLUSTER}/cluster.yaml": b"cluster: x\n"},
    "a note": {"notes.md": b"harmless\n"},
    "a readme of the promotions": {"promotions/README.md": b"harmless\n"},
    "a workflow": {".github/workflows/ci.yaml": b"on: push\n"},
    "the toolkit": {"modelsmith/x.py": b"x = 1\n"},
    "a route of one's own": {ROUTING: b'cluster: "rtb-pricing"\nserving: []\n'},
    "a scenario": {f"{SET}/README.md": b"x\n"},
}


@pytest.mark.parametrize("name", MORE)
def test_a_promotion_that_brings_anything_else_is_refused(waiting, name):
    """Its own new folder and the exact rendering of routing, nothing else."""
    head = waiting.commit({**waiting.next_files("customer-deployed"), **MORE[name]})
    waiting.closed_to_everybody(head, requester=HARNESS)


def test_a_file_in_the_folder_that_the_record_does_not_cover_is_found(waiting):
    """Nobody signed for it."""
    files = waiting.next_files("customer-deployed")
    folder = next(iter(files)).rpartition("/")[0]
    waiting.detected(fooled(waiting, waiting.commit({**files, f"{folder}/note.md": b"x\n"})), "other files")


def test_a_proposal_that_brings_its_own_receipts_is_refused(waiting):
    """Receipts are written by the merge, from what was really signed."""
    files = waiting.next_files("customer-deployed")
    folder = next(iter(files)).rpartition("/")[0]
    head = waiting.commit({**files, f"{folder}/receipts/approval-noor.json": b"{}"})
    waiting.closed_to_everybody(head, "receipts-are-not-proposed", requester=HARNESS)


def test_receipts_proposed_for_an_older_promotion_are_refused(deployed):
    """A sealed folder gains nothing more, by whatever pull request."""
    folder = record_folder(deployed.governed().histories.find(deployed.draft().specialist).records[-1])
    head = deployed.commit({f"{folder}/receipts/approval-noor.json": b"{}"})
    deployed.closed_to_everybody(head, "receipts-are-not-proposed")


def test_a_record_signed_outside_the_trust_root_is_found(waiting, tmp_path):
    """Mallory's own key, and no signature at all."""
    create_signing_key(tmp_path / "mallory.pem")
    files = waiting.next_files("customer-deployed")
    path = next(path for path in files if path.endswith("/record.json"))
    kind = "https://modelsmith.dev/promotion-record/v1"
    forged = seal(statement("record.json", files[path], kind, {}), tmp_path / "mallory.pem")
    signature = path.replace("record.json", "record.sigstore.json")
    start = waiting.main()
    for bad in ({**files, signature: forged}, {p: d for p, d in files.items() if p != signature}):
        waiting.detected(fooled(waiting, waiting.commit(bad, start)))
        waiting.rewrite_on_disk("refs/heads/main", start)


def test_the_signature_of_another_record_is_found(waiting):
    """A bundle that the harness made for the record before."""
    files = waiting.next_files("customer-deployed")
    signature = next(path for path in files if path.endswith("/record.sigstore.json"))
    before = record_folder(waiting.governed().histories.find(waiting.draft().specialist).records[-1])
    other = waiting.governed().tree.read(f"{before}/record.sigstore.json")
    waiting.detected(fooled(waiting, waiting.commit({**files, signature: other})), "signature")


RECORDS = {
    "a 10 MB record": lambda data: canonical_json(
        {**json.loads(data), "evidence": {f"{n:07d}.md": OTHER for n in range(110_000)}}
    ),
    "a 10 MB text in a record": lambda data: canonical_json({**json.loads(data), "eval_tag": "x" * 10_000_000}),
    "a duplicate key": lambda data: data.replace(b'"event"', b'"event":"candidate","event"', 1),
    "trailing bytes": lambda data: data + b"\n",
    "spaces": lambda data: json.dumps(json.loads(data)).encode(),
    "NaN": lambda data: data.replace(b'"composite":1', b'"composite":NaN'),
    "an unknown field": lambda data: data.replace(b'"event"', b'"approved":true,"event"', 1),
    "no record": lambda data: b"",
    "deep nesting": lambda data: b"[" * 100_000,
    "no text": lambda data: b"\xff\xfe",
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_in_any_other_form_is_refused_in_words(waiting, name):
    """Too large, not canonical, not a record: the check says so and nothing crashes, at the gate and at verify."""
    files = waiting.next_files("customer-deployed")
    path = next(path for path in files if path.endswith("/record.json"))
    data = RECORDS[name](files[path])
    assert data != files[path]
    key = waiting.harness_keys / "harness.pem"
    kind = "https://modelsmith.dev/promotion-record/v1"
    signature = path.replace("record.json", "record.sigstore.json")
    files |= {path: data, signature: seal(statement("record.json", data, kind, {}), key)}
    head = waiting.commit(files)
    waiting.closed_to_everybody(head, "check-failed", requester=HARNESS)


def test_a_folder_of_more_than_the_policy_allows_is_refused(waiting):
    """Evidence is figures; sixteen megabytes of anything are not."""
    size = waiting.governed().policy.limits.evidence_bytes
    extra = {**waiting.files_for("customer-deployed"), "more.txt": b"x" * size}
    facts = waiting.draft_for("customer-deployed")
    record = next_record(waiting.governed(), "customer-deployed", facts, extra)
    assert isinstance(record, PromotionRecord)
    files = waiting.next_files("customer-deployed") | waiting.record_files(record, extra)
    waiting.detected(fooled(waiting, waiting.commit(files)), "larger than policy allows")


def second_specialist(world):
    for event in ("candidate", "eval-accepted", "artifact-exported"):
        world.merge(world.promote(event, 2))
    return world.promote("customer-deployed", 2)


def test_two_promotions_prepared_against_the_same_past_collide(waiting):
    """Both approved, the first one merges, and the second speaks of traffic as it no longer is."""
    other = second_specialist(waiting)
    for number in (4, other):
        waiting.approve(number, "maya")
    late = waiting.as_(HARNESS).get(other)
    assert waiting.gate(other).decision.open
    assert waiting.gate(4).decision.open
    waiting.merge(4)
    with refused("gate-closed", "conflict"):
        waiting.merge(other)
    files = {p.path: waiting.git.read_blob(p.new_blob) for p in waiting.git.change(late.base, late.head).paths}
    waiting.detected(fooled(waiting, waiting.commit(files), other), "expected_previous")


def test_a_promotion_prepared_anew_on_the_new_main_passes(waiting):
    """The control of the one above."""
    other = second_specialist(waiting)
    waiting.approve(4, "maya")
    waiting.merge(4)
    again = waiting.promote("customer-deployed", 2)
    assert again != other
    waiting.approve(again, "maya")
    waiting.merge(again)
    assert waiting.holds().promotions == 8


@pytest.mark.parametrize(("event", "missing"), [("eval-accepted", "evidence.json"), ("artifact-exported", "model.sig")])
def test_a_promotion_without_what_its_event_must_show_is_found(request, event, missing):
    """Left out of folder and record alike; the check says so, and does not stumble."""
    world = request.getfixturevalue("candidate" if event == "eval-accepted" else "accepted")
    contents = {name: data for name, data in world.files_for(event).items() if name != missing}
    record = next_record(world.governed(), event, world.draft_for(event), contents)
    world.detected(fooled(world, world.commit(world.record_files(record, contents))), f"{missing} missing")
