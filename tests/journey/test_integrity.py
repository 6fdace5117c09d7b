"""Tampering: whoever does it, with whatever key at hand, it is refused by the gate or found by `verify`."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelsmith.forges.local import LocalForge
from modelsmith.forges.port import ForgeIdentity, Proposal
from modelsmith.repository.git import Git, Ident
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.evidence import EVIDENCE_TYPE
from modelsmith.schema.promotion import APPROVAL_NAMESPACE, RECORD_TYPE, Approval
from modelsmith.schema.pull import SignedApproval
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.ssh import sign

MALLORY = Ident("mallory", "mallory@example.org", datetime(2026, 1, 1, tzinfo=UTC))
RUBRIC = "evals/adtech/rtb-root-cause/rubrics/root-cause.yaml"


def relative(world, path):
    return path.relative_to(world.clone).as_posix()


def stored(world):
    """The only artifact's folder in the store."""
    (folder,) = (world.home / "store" / "sha256").glob("*/*")
    return folder


def overwrite(path, data):
    path.chmod(0o644)
    path.write_bytes(data)


def forge_of(world, actor, key):
    return LocalForge(world.forge, world.git, ForgeIdentity(actor, key))


def propose(world, branch, person, title="A change"):
    result = world.modelsmith("pr", "open", branch, "--title", title, "--key", world.key(person), "--json")
    assert result.code == 0, result.out
    return str(result.json["pull"]["number"])


def approve(world, number, person):
    return world.modelsmith("approve", number, "--key", world.key(person), "--json")


def test_a_changed_artifact_is_found_by_verify_and_never_run(deployed):
    weights = stored(deployed) / "adapter_model.safetensors"
    data = weights.read_bytes()
    overwrite(weights, data[:-1] + bytes([data[-1] ^ 1]))
    assert deployed.modelsmith("verify", "--json").code == 5
    specialist = deployed.state()["specialist"]
    result = deployed.modelsmith("eval", "--cluster", "rtb-pricing", "--model", specialist, "--json")
    assert result.code == 5, result.out
    assert "eval" not in result.phases
    overwrite(weights, data)
    assert deployed.modelsmith("verify", "--json").code == 0

    extra = stored(deployed) / "pickle.bin"
    extra.write_bytes(b"x")
    assert deployed.modelsmith("verify", "--json").code == 5


def test_another_signature_than_main_s_is_found_by_verify(deployed):
    signature = stored(deployed) / "model.sig"
    overwrite(signature, signature.read_bytes().replace(b'"', b'"', 1) + b"\n")
    result = deployed.modelsmith("verify", "--json")
    assert (result.code, result.json["code"]) == (5, "signature-differs")
    assert "model.sig" in result.json["mend"]


def test_weights_that_are_elsewhere_are_reported_not_invented(deployed):
    stored(deployed).rename(deployed.folder / "elsewhere")
    assert list(deployed.modelsmith("verify", "--json").json["weights"].values()) == ["not checked"]


def test_paths_to_verify_begin_where_one_stands(deployed):
    """A copy of the artifact beside the clone, and a folder of the specialist's history, named from that folder."""
    shutil.copytree(stored(deployed), deployed.folder / "copy")
    folder = deployed.folder_of("artifact-exported")
    result = deployed.modelsmith("verify", "../../../../../copy", ".", "--json", cwd=folder)
    text = f"checked, {folder.parent.name}"
    assert result.json["weights"] == {folder.parent.name: "checked", str(deployed.folder / "copy"): text}
    above = deployed.modelsmith("verify", "..", "--json", cwd=folder.parent)
    assert (above.code, above.json["code"]) == (2, "bad-path"), "a cluster's folder is no specialist's"


def test_answers_edited_after_the_run_are_found(deployed):
    tag = "rtb-pricing-iter-001-candidate"
    file = deployed.private / "rtb-pricing" / "runs" / tag / "observations.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["completion"] = "the right answer"
    file.write_bytes(b"".join(canonical_json(line) + b"\n" for line in lines))
    for words in (("compare", "rtb-pricing-iter-001-base", tag), ("results", "--tag", tag, "--failures")):
        result = deployed.modelsmith(*words, "--json")
        assert (result.code, result.json["code"]) == (5, "run-damaged")


TAMPERING = {
    "a changed record": lambda w, f: {f / "record.json": (w.clone / f / "record.json").read_bytes() + b"\n"},
    "a removed record": lambda w, f: {f / "record.json": None},
    "a removed approval": lambda w, f: {f / "receipts" / "approval-maya.json": None},
    "an invented approval": lambda w, f: {f / "receipts" / "approval-oli.json": b"{}"},
    "an added file": lambda w, f: {f / "note.md": b"harmless\n"},
    "changed evidence": lambda w, f: {f.parent / "02-eval-accepted" / "packet.md": b"All is well.\n"},
    "removed evidence": lambda w, f: {f.parent / "02-eval-accepted" / "evidence.json": None},
    "a changed route": lambda w, f: {
        f.parents[2].parent / "clusters/rtb-pricing/routing.yaml": b"cluster: rtb-pricing\n"
    },
    "a changed rubric": lambda w, f: {f.parents[2].parent / RUBRIC: b"id: root-cause\n"},
}


@pytest.fixture(scope="module")
def tampered(deployed_template, tmp_path_factory):
    return deployed_template.copied_to(tmp_path_factory.mktemp("tampered") / "world")


@pytest.mark.parametrize("name", TAMPERING)
def test_verify_finds_every_commit_that_no_pull_request_stands_behind(tampered, name):
    folder = tampered.folder_of("customer-deployed").relative_to(tampered.clone)
    files = {path.as_posix(): data for path, data in TAMPERING[name](tampered, folder).items()}
    commit = tampered.git.commit_files(tampered.main(), files, "Receipts of pull request 5\n", MALLORY)
    result = tampered.modelsmith("verify", "--revision", commit, "--json")
    assert (result.code, result.json["code"]) == (5, "history-does-not-hold")
    assert result.json["details"]["commit"] == commit


def test_rewritten_history_has_another_root_or_does_not_hold(tampered):
    root = tampered.modelsmith("verify", "--json").json["root"]
    people = ".github/governance/people.yaml"
    text = (tampered.clone / people).read_bytes().replace(b"id: maya", b"id: mallory")
    first = tampered.git.commit_files(tampered.git.first_parent_log("main")[0].id, {people: text}, "Start\n", MALLORY)
    orphan = tampered.git.commit_tree(tampered.git.text("rev-parse", f"{first}^{{tree}}"), [], "Start\n", MALLORY)
    pinned = tampered.modelsmith("verify", "--revision", orphan, "--root", root, "--json")
    assert (pinned.code, pinned.json["code"]) == (5, "unknown-root")
    pinned_by_init = tampered.modelsmith("verify", "--revision", orphan, "--json")
    assert (pinned_by_init.code, pinned_by_init.json["code"]) == (5, "unknown-root")

    tampered.must("config", "--unset", "modelsmith.root")
    unpinned = tampered.modelsmith("verify", "--revision", orphan, "--json")
    assert (unpinned.code, unpinned.json["code"]) == (5, "other-root")
    (tampered.private / "verified.json").unlink()
    assert tampered.modelsmith("verify", "--revision", orphan, "--json").code == 0, "consistent in itself"
    tampered.must("config", "modelsmith.root", root)


def test_nobody_pushes_to_main_directly(deployed):
    before = deployed.main()
    (deployed.clone / "notes.md").write_text("quick fix\n")
    deployed.must("add", "--all")
    deployed.must("commit", "--quiet", "--message", "Quick fix")
    for words in (
        ("push", "origin", "main"),
        ("push", "--force", "origin", "main~2:main"),
        ("push", "origin", ":main"),
    ):
        result = deployed.git_command(*words)
        assert result.code != 0
    assert "protected-main" in deployed.git_command("push", "origin", "main").err
    assert deployed.main() == before


def test_a_ref_moved_on_the_forge_s_disk_past_the_hook_is_found_by_verify(deployed):
    main = deployed.main()
    forged = Git(deployed.forge).commit_files(main, {"notes.md": b"quiet\n"}, "Merge pull request 5\n", MALLORY)
    Git(deployed.forge).update_ref("refs/heads/main", forged, main)
    deployed.must("pull", "--quiet", "--ff-only", "origin", "main")
    result = deployed.modelsmith("verify", "--json")
    assert (result.code, result.json["details"]["commit"]) == (5, forged)


def rewind_to_candidate(world):
    """Forge and clone as they were when the candidate had been merged and nothing else had happened."""
    start = world.git.first_parent_log("main")[2].id
    for git in (Git(world.forge), world.git):
        for line in git.text("for-each-ref", "--format=%(refname)", "refs/modelsmith").splitlines():
            if not line.endswith("pulls/1"):
                git.run("update-ref", "-d", line)
    world.must("reset", "--quiet", "--hard", start)
    Git(world.forge).run("update-ref", "refs/heads/main", start)
    return start


@pytest.mark.parametrize(
    ("forge_it", "said"),
    [
        (lambda evidence: evidence["candidate"]["headline"]["composite"].update(value=0.99), "evidence: "),
        (lambda evidence: evidence["candidate"]["rows"].pop(), "evidence: "),
        (lambda evidence: evidence["rule"]["thresholds"].update(composite=0.5), "question: "),
        (lambda evidence: evidence.update(rubric="sha256:" + "1" * 64), "question: "),
        (lambda evidence: evidence["training"].update(rows=10_000), "evidence: "),
    ],
    ids=["figure", "verdict left out", "rule", "rubric", "lineage"],
)
def test_evidence_changed_and_signed_by_the_harness_again_is_refused(waiting, forge_it, said):
    folder = waiting.folder_of("eval-accepted")
    files = {relative(waiting, path): path.read_bytes() for path in folder.iterdir() if path.is_file()}
    name = relative(waiting, folder)
    main = rewind_to_candidate(waiting)
    key = waiting.harness_keys / "harness.pem"
    evidence, record = json.loads(files[f"{name}/evidence.json"]), json.loads(files[f"{name}/record.json"])
    forge_it(evidence)
    data = canonical_json(evidence)
    files[f"{name}/evidence.json"] = data
    files[f"{name}/evidence.sigstore.json"] = seal(statement("evidence.json", data, EVIDENCE_TYPE, {}), key)
    record["composite"] = evidence["candidate"]["headline"]["composite"]["value"]
    for file_name in ("evidence.json", "evidence.sigstore.json"):
        record["evidence"][file_name] = sha256(files[f"{name}/{file_name}"])
    files[f"{name}/record.json"] = canonical_json(record)
    files[f"{name}/record.sigstore.json"] = seal(
        statement("record.json", files[f"{name}/record.json"], RECORD_TYPE, {}), key
    )

    actor = "modelsmith-harness"
    head = waiting.git.commit_files(main, files, "Eval accepted\n", MALLORY)
    forge = forge_of(waiting, actor, waiting.harness_keys / "harness-ssh")
    pull = forge.open(Proposal(branch="forged", title="Forged", body="", head=head, base=main, requester=actor))
    view = waiting.modelsmith("pr", "show", str(pull.number), "--json").json["pull"]
    assert view["gate"] == "closed"
    assert any(refusal.startswith(said) for refusal in view["refusals"]), view["refusals"]
    assert [
        c["name"] for c in view["checks"] if c["name"] in ("record", "signature", "files") and not c["passed"]
    ] == []
    merged = waiting.modelsmith("pr", "merge", str(pull.number), "--json")
    assert (merged.code, merged.json["code"]) == (3, "gate-closed")

    tree = waiting.git.merge_tree(main, head)
    merge = waiting.git.commit_tree(tree, [main, head], "Merge pull request\n", MALLORY)
    assert waiting.git_command("push", "origin", f"{merge}:refs/heads/main").code != 0, "the hook judges again"
    assert waiting.main() == main


def test_a_rubric_that_changed_since_the_eval_closes_the_deployment(waiting):
    text = (waiting.clone / RUBRIC).read_text()
    waiting.commit("rubric", {RUBRIC: text.replace("weight: 2", "weight: 3", 1)})
    assert waiting.git.change("main", "rubric").paths
    number = propose(waiting, "rubric", "petra")
    assert approve(waiting, number, "dana").json["pull"]["gate"] == "open"
    assert waiting.modelsmith("pr", "merge", number, "--json").code == 0

    approve(waiting, "4", "maya")
    result = waiting.modelsmith("pr", "merge", "4", "--json")
    assert (result.code, result.json["details"]["refusals"]) == (3, ["check-failed", "check-failed"])
    assert "fresh-evidence: the rubric changed since it was evaluated" in result.json["message"]
    assert "packet: not compared" in result.json["message"], "what it is rendered from does not hold"
    assert waiting.modelsmith("verify", "--json").code == 0


def test_keys_that_may_not_decide_do_not(waiting):
    harness = waiting.modelsmith("approve", "4", "--key", str(waiting.harness_keys / "harness-ssh"), "--json")
    assert (harness.code, harness.json["code"]) == (3, "harness-key")
    stranger = approve(waiting, "4", "stranger")
    assert (stranger.code, stranger.json["code"]) == (5, "unknown-key")
    wrong_role = approve(waiting, "4", "dana")
    assert (wrong_role.code, wrong_role.json["pull"]["gate"]) == (4, "waiting")
    assert wrong_role.json["because"] == "dana is none of its owners, which are @head-of-trading"
    assert waiting.modelsmith("pr", "merge", "4", "--json").code == 4

    waiting.commit("petra-s", {"notes.md": "by Petra\n"})
    number = propose(waiting, "petra-s", "petra")
    own = approve(waiting, number, "petra")
    assert (own.code, own.json["because"]) == (4, "petra opened it")
    assert (own.json["pull"]["gate"], own.json["pull"]["waiting_for"]) == ("waiting", ["@platform"])
    assert waiting.modelsmith("pr", "merge", number, "--json").code == 4


def test_an_approval_dies_when_the_change_grows(waiting):
    path = "evals/adtech/pending/README.md"
    waiting.commit("notes", {path: "One.\n"})
    number = propose(waiting, "notes", "petra")
    assert approve(waiting, number, "dana").json["pull"]["gate"] == "open"
    waiting.must("checkout", "--quiet", "notes")
    (waiting.clone / "evals/adtech/README.md").write_text("Two.\n")
    waiting.must("add", "--all")
    waiting.must("commit", "--quiet", "--message", "More")
    waiting.must("checkout", "--quiet", "main")
    again = propose(waiting, "notes", "petra")
    assert again != number
    assert waiting.modelsmith("pr", "merge", again, "--json").code == 4
    refused = waiting.modelsmith("pr", "merge", number, "--json")
    assert (refused.code, refused.json["code"]) == (3, "closed")


def test_an_approval_of_another_change_counts_for_nothing(waiting):
    forge = forge_of(waiting, "maya", Path(waiting.key("maya")))
    approval = Approval(
        repository=waiting.harness_keys.name, pull=4, base=forge.main(), change="sha256:" + "2" * 64,
        verdict="approve", actor="maya",
        at=datetime.now(UTC).replace(microsecond=0),
    )  # fmt: skip
    payload = canonical_json(approval)
    forge.review(
        4,
        SignedApproval(
            statement=payload.decode(), signature=sign(payload, Path(waiting.key("maya")), APPROVAL_NAMESPACE)
        ),
    )
    view = waiting.modelsmith("pr", "show", "4", "--json").json
    assert (view["pull"]["gate"], [review["current"] for review in view["reviews"]]) == ("waiting", [False])
    assert "stale" in waiting.modelsmith("pr", "show", "4").out
    assert waiting.modelsmith("pr", "merge", "4", "--json").code == 4


def test_one_rejection_holds_against_any_approval_until_it_is_taken_back(waiting):
    rejected = waiting.modelsmith("reject", "4", "--key", waiting.key("noor"), "--reason", "held-out too low", "--json")
    assert (rejected.code, rejected.json["pull"]["gate"]) == (0, "closed")
    assert approve(waiting, "4", "maya").json["pull"]["gate"] == "closed"
    result = waiting.modelsmith("pr", "merge", "4", "--json")
    assert (result.code, result.json["details"]["refusals"]) == (3, ["rejected"])
    assert approve(waiting, "4", "noor").json["pull"]["gate"] == "open"
    assert waiting.modelsmith("pr", "merge", "4", "--json").code == 0
    assert waiting.modelsmith("verify", "--json").json["approvals"] == 2
