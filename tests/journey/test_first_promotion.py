"""The newcomer's story: from `init` to a specialist that serves, and on to the next one."""

from __future__ import annotations

import json

import pytest
import yaml

from modelsmith.ledger.ledger import Ledger
from modelsmith.loop import certificates
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evidence import Firewall


def test_the_first_iterate_ends_at_a_person_and_says_what_to_do(first_iterate):
    world, result = first_iterate
    answer = result.json
    assert (answer["cluster"], answer["iteration"], answer["phase"], answer["outcome"]) == (
        "rtb-pricing",
        1,
        "waiting",
        "PASS",
    )
    assert (answer["pull"], answer["waiting_for"]) == (4, ["@head-of-trading"])
    assert answer["next"]["approve"] == {"operation": "approve", "arguments": {"number": 4, "key": "KEY"}}
    assert answer["specialist"] == f"iter-001-{answer['artifact'].removeprefix('sha256:')[:8]}"
    assert answer["reference"]["model"] == "base"
    assert answer["candidate"]["weights"] == answer["artifact"]
    assert answer["reference"]["executed"] == answer["candidate"]["executed"] > answer["candidate"]["scenarios"] > 0
    assert answer["candidate"]["incumbent"] == answer["reference"]["run_id"]
    assert answer["candidate"]["attempts"] == 1
    assert not (world.clone / "clusters" / "rtb-pricing" / "routing.yaml").exists()


def test_progress_goes_to_stderr_and_names_every_phase(first_iterate):
    _, result = first_iterate
    assert {"eval", "diagnose", "train", "assess"} <= result.phases


def test_an_open_pull_request_is_answered_again_without_work(waiting):
    before, pulls = waiting.main(), waiting.pulls()
    events = Ledger(waiting.private / "ledger.db").events()
    again = waiting.modelsmith("iterate", "rtb-pricing", "--json")
    assert (again.code, again.json["phase"], again.json["pull"]) == (4, "waiting", 4)
    assert "eval" not in again.phases
    assert (waiting.main(), waiting.pulls()) == (before, pulls)
    assert Ledger(waiting.private / "ledger.db").events() == events


def test_the_reviewer_sees_packet_checks_and_whose_approval_is_missing(waiting):
    view = waiting.modelsmith("pr", "show", "4", "--json").json
    assert view["pull"]["gate"] == "waiting"
    assert all(check["passed"] for check in view["pull"]["checks"])
    assert {"signature", "life", "routing", "fresh-evidence"} <= {check["name"] for check in view["pull"]["checks"]}
    assert "composite" in view["proposal"]["packet"]["text"].lower()
    text = waiting.modelsmith("pr", "show", "4").out
    assert "@head-of-trading" in text
    assert "ok  signature" in text


def test_merging_before_anyone_approved_ends_with_code_4(waiting):
    result = waiting.modelsmith("pr", "merge", "4", "--json")
    assert (result.code, result.json["code"]) == (4, "approval-missing")
    assert result.json["details"]["waiting_for"] == ["@head-of-trading"]
    assert result.json["next"] == {"operation": "approve", "arguments": {"number": 4, "key": "KEY"}}
    assert "`modelsmith approve 4 --key KEY`" in result.json["mend"]


@pytest.mark.usefixtures("installed_hook")
def test_approve_merge_verify_status_and_lineage_tell_the_same_story(waiting):
    approved = waiting.modelsmith("approve", "4", "--key", waiting.key("maya"), "--reason", "numbers hold", "--json")
    assert approved.code == 0
    assert (approved.json["actor"], approved.json["pull"]["gate"]) == ("maya", "open")

    open_gate = waiting.modelsmith("status", "--json").json["clusters"][0]
    assert open_gate["next"] == {"operation": "pr merge", "arguments": {"number": 4}}

    assert waiting.modelsmith("pr", "merge", "4", "--json").code == 0
    assert waiting.git.rev("HEAD") == waiting.main()
    assert waiting.must("status", "--porcelain") == ""
    assert waiting.modelsmith("pr", "merge", "4", "--json").code == 0, "merged already is fine"

    status = waiting.modelsmith("status", "--json").json["clusters"][0]
    specialist = status["specialists"][0]["specialist"]
    assert status["serving"] == [{"specialist": "base", "share": 0.9}, {"specialist": specialist, "share": 0.1}]
    assert (status["phase"], status["waiting"]) == ("done", [])
    assert "merged" in status["reason"]
    assert status["next"] == {"operation": "iterate", "arguments": {"cluster": "rtb-pricing"}}

    verified = waiting.modelsmith("verify", "--json")
    assert verified.code == 0
    assert (verified.json["promotions"], verified.json["approvals"]) == (4, 1)
    assert verified.json["weights"] == {specialist: "checked"}
    pinned = waiting.modelsmith("verify", "--root", verified.json["root"], "--json")
    assert (pinned.code, pinned.json["pinned"]) == (0, True)

    lineage = waiting.modelsmith("lineage", "iter-001", "--json").json
    events = [(event["event"], event["approvers"]) for event in lineage["ancestors"][0]["events"]]
    assert events == [
        ("candidate", []), ("eval-accepted", []), ("artifact-exported", []), ("customer-deployed", ["maya"]),
    ]  # fmt: skip
    assert lineage["base_model"] == "tiny"
    artifact = lineage["ancestors"][0]["artifact"]
    assert waiting.modelsmith("lineage", artifact[:15], "--json").json == lineage


@pytest.mark.usefixtures("installed_hook")
def test_a_reviewer_decides_in_a_clone_without_the_harness_s_keys(waiting):
    theirs = waiting.folder / "theirs"
    waiting.must("clone", "--quiet", str(waiting.forge), str(theirs))

    def run_in_clone(*words):
        return waiting.modelsmith(*words, "--json", cwd=theirs)

    assert run_in_clone("verify").code == 0, "a plain clone suffices"
    assert (run_in_clone("pr", "list").code, run_in_clone("pr", "list").json["code"]) == (2, "no-forge")
    waiting.must("-C", str(theirs), "config", "modelsmith.forge", str(waiting.forge))
    assert [pull["number"] for pull in run_in_clone("pr", "list").json["pulls"]] == [4]
    assert run_in_clone("status").code == 0
    assert run_in_clone("approve", "4", "--key", waiting.key("maya")).json["pull"]["gate"] == "open"
    assert (run_in_clone("pr", "merge", "4").code, run_in_clone("pr", "merge", "4").json["code"]) == (2, "no-harness")
    assert waiting.modelsmith("pr", "merge", "4", "--json").code == 0


def test_every_command_prints_one_object_for_machines_and_text_for_people(deployed):
    base, candidate = "rtb-pricing-iter-001-base", "rtb-pricing-iter-001-candidate"
    commands = {
        ("validate",): 0,
        ("doctor",): 0,
        ("schema", "export", ".iterate/schemas"): 0,
        ("status",): 0,
        ("results", "--tag", candidate, "--failures"): 0,
        ("compare", base, candidate): 0,
        ("diagnose", "--tag", base): 0,
        ("lineage", "iter-001"): 0,
        ("pr", "list", "--all"): 0,
        ("pr", "show", "4"): 0,
        ("verify",): 0,
        ("promote", "rtb-pricing"): 4,
        ("reject", "5", "--key", deployed.key("noor"), "--reason", "too early"): 0,
    }
    for words, code in commands.items():
        for_people = deployed.modelsmith(*words)
        assert (words, for_people.code) == (words, code), for_people.err
        assert for_people.out.strip()
        for_machines = deployed.modelsmith(*words, "--json")
        assert (words, for_machines.code) == (words, code), for_machines.out
        assert for_machines.out.count("\n") == 1
        assert isinstance(json.loads(for_machines.out), dict)
    assert deployed.must("status", "--porcelain") == ""


def test_held_out_answers_are_never_shown(deployed):
    answer = deployed.modelsmith("results", "--tag", "rtb-pricing-iter-001-base", "--failures", "--json").json
    assert answer["failures"]
    assert {failure["section"] for failure in answer["failures"]} == {"core", "robustness", "micro"}


def test_the_second_iterate_starts_from_where_the_first_ended(deployed):
    first = deployed.state()["specialist"]
    result = deployed.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.out
    answer = result.json
    assert (answer["iteration"], answer["phase"]) == (2, "waiting")
    assert answer["specialist"].startswith("iter-002-")

    reference = answer["reference"]
    assert (reference["model"], reference["executed"]) == (first, 0), "its answers are known already"
    base = deployed.modelsmith("results", "--tag", "rtb-pricing-iter-002-base", "--json").json["run"]
    assert base["executed"] == 0
    assert answer["candidate"]["executed"] > 0

    lineage = deployed.modelsmith("lineage", answer["specialist"], "--json").json
    assert [ancestor["specialist"] for ancestor in lineage["ancestors"]] == [answer["specialist"], first]
    assert [ancestor["training"]["parent"] for ancestor in lineage["ancestors"]] == [first, "base"]
    evidence = json.loads((deployed.folder_of("eval-accepted") / "evidence.json").read_bytes())
    assert (evidence["incumbent"]["model"], [baseline["model"] for baseline in evidence["baselines"]]) == (
        first,
        ["base"],
    )
    (past,) = evidence["firewall"]["ancestors"]
    assert (past["specialist"], past["rows"]) == (first, lineage["ancestors"][1]["training"]["rows_digest"])
    verified = deployed.modelsmith("verify", "--json").json
    assert verified["promotions"] == 7
    assert verified["firewall"] == {first: "recomputed", answer["specialist"]: "recomputed"}
    what_the_parent_knows(deployed, answer["specialist"], past)


def test_nobody_goes_on_from_an_adapter_that_was_taught_an_exam(deployed):
    """A scenario written by hand, or any other change, may hold out what a specialist learned: its heirs know it."""
    specialist = deployed.state()["specialist"]
    row = json.loads((deployed.private / "rtb-pricing/iterations/001/rows.jsonl").read_text().splitlines()[0])
    path = next((deployed.clone / "evals/adtech/rtb-root-cause/held_out/auction-timeout").glob("*.yaml"))
    document = yaml.safe_load(path.read_text())
    document |= {"messages": [{"role": "user", "content": f"Again: {row['messages'][-1]['content']}"}], "variants": []}
    deployed.commit("by-hand", {str(path.relative_to(deployed.clone)): yaml.safe_dump(document, sort_keys=False)})
    words = ("--title", "by hand", "--key", deployed.key("petra"), "--json")
    number = str(deployed.modelsmith("pr", "open", "by-hand", *words).json["pull"]["number"])
    (sentence,) = deployed.modelsmith("pr", "show", number, "--json").json["taught"]
    assert sentence.startswith(f"{specialist} was trained on a row that is ")
    assert document["id"] in sentence
    assert "trained on" in deployed.modelsmith("pr", "show", number).out
    for decided in (("approve", number, "--key", deployed.key("dana")), ("pr", "merge", number)):
        assert deployed.modelsmith(*decided).code == 0
    refused = deployed.modelsmith("iterate", "rtb-pricing", "--json")
    assert (refused.code, refused.json["code"], specialist in refused.json["message"]) == (2, "trained-on", True)


def what_the_parent_knows(world, specialist, past):
    """A lie about the parent's rows is found where they lie; elsewhere that they were not looked at is said."""
    workspace = Workspace(world.clone, world.home)
    main = read_governed_state(world.git, "HEAD")
    evidence = evidence_of(main, main.histories.find(specialist))
    farther = [part | {"similarity": 0.0} for part in past["parts"]]
    firewall = evidence.firewall.model_dump(mode="json") | {"ancestors": [past | {"parts": farther}]}
    lie = evidence.model_copy(update={"firewall": Firewall.model_validate_json(json.dumps(firewall))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "evidence_of", lambda _, history: lie if history.iteration == 2 else evidence)
        with pytest.raises(IntegrityFailure) as refused:
            certificates._recheck(workspace, main, specialist, set(), full=False)
    assert refused.value.code == "firewall-differs"
    rows = world.private / "rtb-pricing" / "iterations" / "001" / "rows.jsonl"
    rows.rename(rows.with_suffix(".away"))
    rechecks = certificates.recheck(workspace, main, full=True)
    assert (rechecks[past["specialist"]], "not at hand" in rechecks[specialist]) == ("rows not at hand", True)
    rows.with_suffix(".away").rename(rows)
