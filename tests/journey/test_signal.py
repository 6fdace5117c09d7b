"""A person can see what a specialist is trained on and take rows out, and ask what became of a failure."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import yaml
from tiny import commit_to_root
from worlds import CLUSTER

from modelsmith.loop import certificates
from modelsmith.promotion.bases import training_of
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure

PATTERN = "auction-timeout.form"


def test_why_follows_a_failure_from_its_rows_to_what_the_adapter_fails(waiting):
    answer = waiting.modelsmith("why", PATTERN, "--json").json
    (turn,) = answer["turns"]
    specialist = waiting.state()["specialist"]
    assert (answer["kind"], turn["diagnosed"], turn["specialist"]) == ("pattern", "base", specialist)
    assert (turn["rows"], turn["failed"], turn["methods"]) == (6, 4, ["sft"])
    assert answer["now"] == turn["outcome"] == ("still failing" if turn["still"] else "fixed")
    scenario = waiting.modelsmith("why", "timeout-core-01", "--json").json
    assert scenario["turns"][0]["pattern"] == PATTERN
    for hidden in ("timeout-held-01", "never-heard-of", "\x1b[2J\u202e" * 9000):
        refused = waiting.modelsmith("why", hidden, "--json")
        assert (refused.code, refused.json["code"], len(refused.out) < 2000) == (2, "unknown-failure", True)
    batch = waiting.modelsmith("review-synthetic", CLUSTER, "--json").json
    assert (batch["rows"], batch["waits"]) == (12, False)
    assert "held" not in json.dumps(batch).replace("held-out", "")
    assert waiting.modelsmith("verify", "--json").json["firewall"] == {specialist: "recomputed"}
    lies_about_its_rows(waiting, specialist)
    late = waiting.modelsmith("strike", CLUSTER, batch["samples"][0]["row"], "--reason", "Late.", "--json")
    assert late.json["code"] == "rows-in-use"
    assert f"`modelsmith iterate {CLUSTER} --review-rows`" in late.json["mend"]


@pytest.mark.parametrize("name", [PATTERN, "timeout-core-01"])
def test_why_tells_only_what_main_and_the_run_s_own_answers_bear_out(waiting, name):
    """Folders of a clone can be changed, copied and mixed up: nothing of them is told as another's, or as unchanged."""
    own = waiting.private / CLUSTER
    diagnosis, run = own / "iterations/001/diagnosis.json", own / f"runs/{CLUSTER}-iter-001-candidate"
    specialist = waiting.state()["specialist"]
    honest = turn_of(waiting, name)
    assert (honest["specialist"], honest["note"], honest["still"] is None) == (specialist, "", False)

    def turn_after(path, text):
        original = path.read_text()
        path.write_text(text(original))
        turn = turn_of(waiting, name)
        path.write_text(original)
        assert (turn["outcome"], turn["still"]) == ("not evaluated", None)
        return turn

    for lie in (
        lambda text: text.replace(":false", ":true"),
        lambda text: text.replace('"timeout-core-01"', '"timeout-core-99"'),
        lambda text: "".join(text.splitlines(keepends=True)[1:]),
    ):
        changed = turn_after(run / "observations.jsonl", lie)
        assert (changed["specialist"], "not those it was recorded with" in changed["note"]) == (specialist, True)
    moved = own / "kept"
    run.rename(moved)
    shutil.copytree(own / f"runs/{CLUSTER}-iter-001-base", run)
    other = turn_after(run / "result.json", lambda text: text.replace("iter-001-base", "iter-001-candidate"))
    assert "another one than that of" in other["note"]
    shutil.rmtree(run)
    assert (turn_of(waiting, name)["outcome"], turn_of(waiting, name)["note"]) == ("not evaluated", "")
    moved.rename(run)
    output = json.loads(diagnosis.read_text())["run_id"]
    mixed = turn_after(diagnosis, lambda text: text.replace(output, f"sha256:{'0' * 64}"))
    assert (mixed["specialist"], f"is {specialist}, of another diagnosis" in mixed["note"]) == (None, True)
    diagnosis.write_text(diagnosis.read_text().replace('"timeout-core-01"', '"timeout-core-01","never-asked"'))
    assert turn_of(waiting, "never-asked")["outcome"] == "not evaluated"
    shutil.copytree(diagnosis.parent, diagnosis.parent.with_name("002"))
    assert waiting.modelsmith("why", name, "--json").json["code"] == "diagnosis-damaged"


def turn_of(world, name):
    result = world.modelsmith("why", name, "--json")
    assert result.code == 0, result.out
    (turn,) = result.json["turns"]
    return turn


def lies_about_its_rows(world, specialist):
    """Evidence and lineage that say something else than the rows that lie here; and rows that are others."""
    workspace = Workspace(world.clone, world.home)
    main = read_governed_state(world.git, "HEAD")
    history = main.histories.find(specialist)
    evidence, facts = evidence_of(main, history), training_of(main, history)
    farther = tuple(part.model_copy(update={"similarity": 0.0}) for part in evidence.firewall.parts)
    lie = evidence.model_copy(update={"firewall": evidence.firewall.model_copy(update={"parts": farther})})
    for name, value in (("evidence_of", lie), ("training_of", facts.model_copy(update={"sources": {"teacher": 2}}))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(certificates, name, lambda *_, answer=value: answer)
            with pytest.raises(IntegrityFailure) as refused:
                certificates.recheck(workspace, main, full=False)
        assert refused.value.code == "firewall-differs"
    rows = world.private / CLUSTER / "iterations" / "001" / "rows.jsonl"
    original = rows.read_bytes()
    rows.write_bytes(original[: original.index(b"\n") + 1])
    assert certificates.recheck(workspace, main, full=False) == {specialist: "rows not at hand"}
    rows.write_bytes(original)


def test_a_struck_row_is_not_trained_on_and_stays_away(waiting):
    stopped = waiting.modelsmith("iterate", CLUSTER, "--restart", "--review-rows", "--json")
    assert (stopped.code, stopped.json["phase"], stopped.json["iteration"]) == (4, "train", 2)
    before = waiting.modelsmith("review-synthetic", CLUSTER, "--json").json
    row = before["samples"][0]["row"]
    assert waiting.modelsmith("strike", CLUSTER, "0" * 12, "--reason", "x", "--json").json["code"] == "unknown-row"
    struck = waiting.modelsmith("strike", CLUSTER, row, "--reason", "It teaches two answers.", "--json").json
    assert (before["waits"], struck["rows"]) == (True, before["rows"] - 1)
    assert struck["rows_digest"] != before["rows_digest"]
    after = waiting.modelsmith("iterate", CLUSTER, "--json")
    assert after.json["specialist"].startswith("iter-002-"), after.out
    facts = json.loads((waiting.folder_of("candidate") / "training.json").read_bytes())
    assert (facts["rows"], facts["rows_digest"]) == (struck["rows"], struck["rows_digest"])
    review = waiting.modelsmith("review-synthetic", CLUSTER, "--json").json
    assert [entry["reason"] for entry in review["struck"]] == ["It teaches two answers."]


def test_pending_cases_are_asked_and_score_nothing(waiting):
    records = waiting.folder / "records.jsonl"
    case = {"prompt": "Write to jane@example.org: bids time out.", "answer": "pacing", "outcome": "wrong"}
    records.write_text(f"{json.dumps(case)}\n{json.dumps(case)}\n")
    pull = waiting.modelsmith("capture", str(records), "--json").json["pull"]["number"]
    assert waiting.modelsmith("approve", str(pull), "--key", waiting.key("dana")).code == 0
    assert waiting.modelsmith("pr", "merge", str(pull)).code == 0
    waiting.must("fetch", str(waiting.forge), "main")
    waiting.must("merge", "--ff-only", "FETCH_HEAD")
    result = waiting.modelsmith("run-pending", CLUSTER, "--json")
    (answered,) = result.json["cases"]
    assert (answered["seen"], answered["asked"]) == (2, "Write to [email]: bids time out.")
    assert isinstance(answered["answer"], str)
    again = waiting.modelsmith("eval", "--cluster", CLUSTER, "--tag", "after", "--json").json["run"]
    assert (again["scenarios"], again["executed"]) == (12, 0)
    assert waiting.modelsmith("validate").code == 0


def test_what_was_trained_on_is_never_held_out_afterwards(waiting):
    """Whoever was trained on a case knows its answer: a figure over it would say nothing."""
    rows = (waiting.private / CLUSTER / "iterations/001/rows.jsonl").read_text().splitlines()
    text = json.loads(rows[0])["messages"][-1]["content"]
    case = {"prompt": f"{text.upper()} ", "answer": "pacing", "outcome": "wrong"}
    (waiting.folder / "records.jsonl").write_text(f"{json.dumps(case)}\n")
    captured = waiting.modelsmith("capture", str(waiting.folder / "records.jsonl"), "--json").json
    number = str(captured["pull"]["number"])
    assert waiting.modelsmith("approve", number, "--key", waiting.key("dana")).code == 0
    assert waiting.modelsmith("pr", "merge", number).code == 0
    waiting.must("fetch", str(waiting.forge), "main")
    waiting.must("merge", "--ff-only", "FETCH_HEAD")
    (line,) = (waiting.clone / captured["path"]).read_text().splitlines()
    specialist = waiting.state()["specialist"]
    options = ("--capability", "auction-timeout", "--answer", "cause=timeout", "--answer", "action=cut_latency")
    options += ("--pass", "a", "--fail", "b", "--risk", "low", "--lens", "sre", "--outcome", "delay", "--json")

    def accepted(part):
        return waiting.modelsmith("accept-scenario", json.loads(line)["id"], "--part", part, *options).json

    refused = accepted("held-out")
    assert (refused["code"], specialist in refused["message"]) == ("trained-on", True), refused
    core = accepted("core")
    output = waiting.modelsmith("pr", "show", str(core["pull"]["number"]), "--json").out
    assert f"Trained on a row that is as near: {specialist} 1.00" in output


def test_a_customer_s_rows_join_the_batch_and_the_record_says_so(fresh):
    data = fresh.folder / "ours"
    data.mkdir()
    right = '{"cause": "timeout", "action": "cut_latency"}'
    lines = [json.dumps({"note": text, "right": right}) for text in (NOTE, "x" * 200_000)]
    (data / "tickets.jsonl").write_text("\n".join([*lines, "no json"]))
    digest = hashlib.sha256((data / "tickets.jsonl").read_bytes()).hexdigest()
    manifest = {
        "id": "tickets", "uri": "file:tickets.jsonl", "digest": f"sha256:{digest}", "format": "jsonl",
        "license": "LicenseRef-ours", "owner": "domain-lead", "columns": {"prompt": "note", "answer": "right"},
        "capability": "auction-timeout", "retain_until": "2990-01-01",
    }  # fmt: skip
    folder = fresh.clone / "evals/adtech/rtb-root-cause/datasets"
    folder.mkdir()
    (folder / "tickets.yaml").write_text(yaml.safe_dump(manifest))
    path = fresh.clone / f"clusters/{CLUSTER}/cluster.yaml"
    cluster = yaml.safe_load(path.read_text())
    teacher = {"name": "mentor", "share": 0.2, "base_model": dict(cluster["base_model"]), "max_new_tokens": 16}
    names = {"share": 0.4, "names": ["absent"]}
    cluster["training"]["sources"] = {
        "own_samples": {"share": 0.2, "samples": 1},
        "teacher": teacher,
        "datasets": names,
    }
    path.write_text(yaml.safe_dump(cluster, sort_keys=False))
    answer = fresh.modelsmith("validate", "--json").json["problems"]
    place = f"clusters/{CLUSTER}/cluster.yaml", path.read_text()[: path.read_text().index("- absent")].count("\n") + 1
    assert [(problem["file"], problem["line"]) for problem in answer] == [place]
    assert answer[0]["message"] == "the eval set has no data set 'absent'"
    names["names"] = ["tickets"]
    path.write_text(yaml.safe_dump(cluster, sort_keys=False))
    commit_to_root(fresh.clone, fresh.forge)
    refused = fresh.modelsmith("iterate", CLUSTER, "--review-rows", "--json")
    assert (refused.code, refused.json["code"]) == (2, "dataset-not-allowed")
    fresh.must("config", "modelsmith.datasets", str(data))
    assert fresh.modelsmith("iterate", CLUSTER, "--review-rows", "--json").code == 4
    batch = fresh.modelsmith("review-synthetic", CLUSTER, "--json").json
    tickets, mentor, own = batch["sources"]
    assert (tickets["kept"], tickets["rejected"]) == (1, {"unreadable": 2})
    assert tickets["notes"][-1] == "tickets, line 3: it is no JSON"
    assert (mentor["name"], mentor["kept"], own["kept"]) == ("mentor", 0, 0), "a model of random weights passes nothing"
    assert batch["rows"] == 12
    output = fresh.modelsmith("review-synthetic", CLUSTER).out
    assert "tickets, line 1" in output
    assert "unreadable 2" in output
    assert fresh.modelsmith("iterate", CLUSTER, "--json").code == 4
    facts = json.loads((fresh.folder_of("candidate") / "training.json").read_bytes())
    assert (facts["sources"], set(facts["datasets"]), facts["rows"]) == ({"dataset": 1}, {"tickets"}, 12)
    assert fresh.modelsmith("verify", "--json").code == 0


NOTE = "Our replies to the Zagreb marketplace land 40 ms late because the feature store there stalls before we speak."
