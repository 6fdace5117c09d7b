"""What is served is what was tested: an export is made, evaluated and deployed as a specialist of its own."""

from __future__ import annotations

import json
import signal

from tiny import write_gguf

CLUSTER = "rtb-pricing"


def answers(world, tag):
    path = next(world.private.glob(f"**/runs/{tag}/observations.jsonl"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {f"{row['section']}/{row['id']}/{row['wording']}": row["completion"] for row in rows}


def test_merged_weights_reach_production_with_evidence_of_their_own(deployed):
    adapter = deployed.state()["specialist"]
    result = deployed.modelsmith("export", adapter, "--as", "merged", "--json")
    assert result.code == 0, result.out + result.err
    answer = result.json
    child = answer["specialist"]
    assert (answer["state"], answer["parent"], answer["outcome"]) == ("artifact-exported", adapter, "PASS")
    assert child != adapter
    assert child.split("-")[1] == adapter.split("-")[1]

    history = deployed.clone / "promotions" / CLUSTER / child
    assert not (history / "01-candidate" / "training.json").exists()
    facts = json.loads((history / "01-candidate" / "export.json").read_text())
    assert (facts["parent"], facts["export"]["kind"]) == (adapter, "merged")
    evidence = json.loads((history / "02-eval-accepted" / "evidence.json").read_text())
    assert evidence["candidate"]["weights"] == answer["artifact"]
    assert evidence["candidate"]["base"] is None
    assert evidence["incumbent"]["model"] == adapter
    assert evidence["export"] == facts
    assert f"merged export of {adapter}" in (history / "02-eval-accepted" / "packet.md").read_text()
    mine, theirs = answer["candidate"], f"{CLUSTER}-iter-001-candidate"
    assert answers(deployed, mine["tag"]) == answers(deployed, theirs), "float32 here: the very weights of the adapter"

    again = deployed.modelsmith("export", adapter, "--as", "merged", "--json")
    assert (again.code, again.json["specialist"]) == (0, child)
    number = len(deployed.modelsmith("pr", "list", "--all", "--json").json["pulls"])

    promotion = deployed.modelsmith("promote", CLUSTER, child, "--json")
    assert promotion.code == 4, promotion.out + promotion.err
    assert promotion.json["pull"] == number + 1
    for words in (("approve", str(number + 1), "--key", deployed.key("maya")), ("pr", "merge", str(number + 1))):
        step_result = deployed.modelsmith(*words, "--json")
        assert step_result.code == 0, step_result.out
    status = deployed.modelsmith("status", "--json").json["clusters"][0]
    assert child in [arm["specialist"] for arm in status["serving"]]
    views = {specialist["specialist"]: specialist for specialist in status["specialists"]}
    assert (views[child]["export"], views[adapter]["exports"]) == (f"merged export of {adapter}", [child])
    lineage = deployed.modelsmith("lineage", child, "--json").json
    assert [ancestor["specialist"] for ancestor in lineage["ancestors"]] == [child, adapter]
    assert deployed.modelsmith("lineage", adapter, "--json").json["descendants"][0]["how"] == "merged"
    verified = deployed.modelsmith("verify", "--json")
    assert verified.code == 0, verified.out
    assert verified.json["weights"][child] == "checked"


def test_a_gguf_file_that_was_made_elsewhere_comes_in_as_an_export(deployed, tiny_model, tmp_path):
    adapter = deployed.state()["specialist"]
    write_gguf(tiny_model, tmp_path / "F.gguf")
    result = deployed.modelsmith("export", adapter, "--as", "gguf", "--file", str(tmp_path / "F.gguf"), "--json")
    assert result.code == 0, result.out + result.err
    assert result.json["state"] == "artifact-exported"
    base = result.json["candidate"]["tag"]
    assert answers(deployed, base) == answers(deployed, f"{CLUSTER}-iter-001-base"), (
        "this file holds the bare base model"
    )
    (tmp_path / "F.gguf").write_bytes((tmp_path / "F.gguf").read_bytes() + b"more")
    result = deployed.modelsmith("export", adapter, "--as", "gguf", "--file", str(tmp_path / "F.gguf"), "--json")
    assert (result.code, result.json["code"]) == (5, "gguf-header")
    assert deployed.modelsmith("export", adapter, "--as", "gguf", "--json").json["code"] == "not-exportable"
    assert deployed.modelsmith("verify", "--json").code == 0


KILLS = (
    "modelsmith.substrates.merging:write_merged 1 after SIGKILL",
    "modelsmith.loop.exports:promote_export_record 1 before SIGKILL",
    "modelsmith.loop.exports:promote_export_record 1 after SIGKILL",
    "modelsmith.loop.exports:assess_candidate 1 before SIGKILL",
    "modelsmith.loop.exports:promote_accepted 1 before SIGKILL",
    "modelsmith.loop.exports:promote_exported 1 before SIGKILL",
)


def test_killed_at_any_step_the_same_export_goes_on_from_there(deployed):
    adapter = deployed.state()["specialist"]
    ask = ("export", adapter, "--as", "merged", "--json")
    for point in KILLS:
        assert deployed.stop_at(point, *ask).code == -signal.SIGKILL, point
    result = deployed.modelsmith(*ask)
    assert (result.code, result.json["state"]) == (0, "artifact-exported"), result.out + result.err
    assert "eval" not in result.phases, "answered before the last kills"
    assert [path.name for path in (deployed.private / CLUSTER / "exports").iterdir()] == [result.json["specialist"]]
    titles = [title for title in deployed.pulls().values() if result.json["specialist"] in title]
    assert len(titles) == 3, titles
    assert deployed.modelsmith("verify", "--json").json["weights"][result.json["specialist"]] == "checked"


SET = "evals/adtech/rtb-root-cause/evalset.yaml"
POLICY = ".github/governance/policy.yaml"


def test_an_export_that_does_not_clear_the_gate_ends_there(deployed):
    adapter = deployed.state()["specialist"]
    deployed.changed(SET, lambda document: document["decision"].update(margin=0.001), "petra", "dana")
    ask = ("export", adapter, "--as", "merged", "--json")
    result = deployed.modelsmith(*ask)
    child = result.json["specialist"]
    assert (result.code, result.json["outcome"], result.json["state"]) == (3, "INCONCLUSIVE", "candidate"), result.out
    again = deployed.modelsmith(*ask)
    assert (again.code, again.json["outcome"], "eval" in again.phases) == (3, "INCONCLUSIVE", False)

    deployed.changed(
        POLICY,
        lambda document: next(t for t in document["transitions"] if t["event"] == "eval-accepted").update(
            override="domain-lead"
        ),
        "dana",
        "petra",
    )
    promotion = deployed.modelsmith("promote", CLUSTER, child, "--override", "There are no more cases.", "--json")
    assert (promotion.code, promotion.json["waiting_for"]) == (4, ["@domain-lead"]), promotion.out
    number = str(promotion.json["pull"])
    for words in (("approve", number, "--key", deployed.key("dana")), ("pr", "merge", number)):
        assert deployed.modelsmith(*words, "--json").code == 0
    went_on = deployed.modelsmith(*ask)
    assert (went_on.code, went_on.json["state"]) == (0, "artifact-exported"), went_on.out
    assert went_on.json["outcome"] == "INCONCLUSIVE"

    deployed.changed(SET, lambda document: document["thresholds"].update(composite=0.9), "petra", "dana")
    failed = deployed.modelsmith("export", adapter, "--as", "merged", "--dtype", "bfloat16", "--json")
    assert (failed.code, failed.json["outcome"], failed.json["state"]) == (3, "FAIL", "candidate"), failed.out
    refused = deployed.modelsmith("promote", CLUSTER, failed.json["specialist"], "--override", "We want it.", "--json")
    assert (refused.code, refused.json["code"]) == (2, "nothing-to-override")
    assert "nobody overrides" in refused.json["message"]
    assert deployed.modelsmith("verify", "--json").code == 0
