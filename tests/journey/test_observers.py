"""A second machine repeats the eval with a real model, and the deployment waits for what it says."""

from __future__ import annotations

import copy

import yaml
from observing import fetched, list_observer, observer, put_on_main
from worlds import CLUSTER


def test_a_deployment_waits_for_a_second_machine_that_agrees(waiting):
    specialist, artifact = waiting.state()["specialist"], waiting.state()["artifact"]
    list_observer(waiting)
    asked = waiting.modelsmith("promote", CLUSTER, "--json")
    assert (asked.code, asked.json["code"], asked.json["details"]["waiting_for"]) == (4, "unobserved", ["ci"])
    assert "modelsmith observe" in waiting.modelsmith("iterate", CLUSTER, "--json").json["reason"]
    mine = waiting.modelsmith("observe", specialist, "--json")
    assert (mine.code, mine.json["code"]) == (2, "not-an-observer")

    there = observer(waiting)
    assert there("observe", specialist).json["code"] == "weights-missing"
    ran = there("observe", specialist, "--artifact", fetched(waiting, artifact))
    assert ran.code == 0, ran.out + ran.err
    answer = ran.json["agreement"]
    assert (answer["agrees"], answer["same_engine"], answer["turned"], ran.json["status"]) == (True, True, [], "merged")
    assert "eval" in ran.phases, "nothing is taken over"
    again = there("observe", specialist)
    assert (again.code, again.json["pull"], "eval" in again.phases) == (0, None, False)

    proposed = waiting.modelsmith("iterate", CLUSTER, "--json")
    assert proposed.code == 4, proposed.out + proposed.err
    number = str(proposed.json["pull"])
    assert waiting.modelsmith("pr", "show", number, "--json").json["pull"]["gate"] == "waiting"
    for words in (("approve", number, "--key", waiting.key("maya")), ("pr", "merge", number)):
        ran = waiting.modelsmith(*words, "--json")
        assert ran.code == 0, ran.out
    found = waiting.modelsmith("verify", "--json").json
    assert [observation["observer"] for observation in found["observations"][specialist]] == ["ci"]
    assert "agrees" in waiting.modelsmith("verify").out
    text = there("validate").json
    assert text["kinds"]["observation"] == 1


def test_a_second_machine_trains_it_again_and_comes_to_the_very_same(waiting):
    specialist, artifact = waiting.state()["specialist"], waiting.state()["artifact"]
    list_observer(waiting, retrained=1)
    there, copy = observer(waiting), fetched(waiting, artifact)
    plain = there("observe", specialist, "--artifact", copy)
    assert (plain.code, plain.json["agreement"]["retrained"]) == (0, None), plain.out
    answer = waiting.modelsmith("promote", CLUSTER, "--json").json
    assert (answer["code"], "0 of 1 who must repeat the training did" in answer["message"]) == ("unobserved", True)
    assert f"modelsmith observe {specialist} --retrain" in answer["mend"]
    assert "0 of 1 who must repeat" in waiting.modelsmith("status").out

    rows = waiting.private / CLUSTER / "iterations" / "001" / "rows.jsonl"
    missing = there("observe", specialist, "--retrain").json
    assert missing["code"] == "rows-missing"
    assert missing["details"]["rows"] in missing["mend"]
    other = waiting.folder / "rows.jsonl"
    other.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[1:]))
    assert there("observe", specialist, "--retrain", "--rows", str(other)).json["code"] == "other-rows"

    ran = there("observe", specialist, "--retrain", "--rows", str(rows))
    assert ran.code == 0, ran.out + ran.err
    assert "train" in ran.phases
    agreement = ran.json["agreement"]
    assert agreement["retrained"] == {"identical": True, "agrees": True, "turned": []}
    assert "the very same artifact" in agreement["sentence"]
    again = there("observe", specialist, "--retrain", "--rows", str(rows))
    assert (again.code, again.json["pull"], "train" in again.phases) == (0, None, False)

    proposed = waiting.modelsmith("promote", CLUSTER, "--json")
    assert proposed.code == 4, proposed.out
    number = str(proposed.json["pull"])
    assert "trained it again from its rows (ci); the policy requires 1" in waiting.modelsmith("pr", "show", number).out
    for words in (("approve", number, "--key", waiting.key("maya")), ("pr", "merge", number)):
        ran = waiting.modelsmith(*words, "--json")
        assert ran.code == 0, ran.out
    assert "trained again from the same rows" in waiting.modelsmith("verify").out


def test_a_second_machine_observes_an_export_whose_parent_it_trained(deployed):
    """Also when the cluster names more stages than the parent was trained in."""
    adapter, artifact = deployed.state()["specialist"], deployed.state()["artifact"]
    list_observer(deployed, retrained=1)
    path = f"clusters/{CLUSTER}/cluster.yaml"
    cluster = yaml.safe_load((deployed.clone / path).read_text())
    cluster["training"] = [cluster["training"], copy.deepcopy(cluster["training"]) | {"method": "dpo"}]
    put_on_main(deployed, "more-stages", {path: yaml.safe_dump(cluster, sort_keys=False)})
    made = deployed.modelsmith("export", adapter, "--as", "merged", "--json").json
    child = made["specialist"]
    there = observer(deployed)
    answer = deployed.modelsmith("promote", CLUSTER, child, "--json").json
    assert answer["code"] == "unobserved"

    rows = deployed.private / CLUSTER / "iterations" / "001" / "rows.jsonl"
    parent = there("observe", adapter, "--artifact", fetched(deployed, artifact), "--retrain", "--rows", str(rows))
    assert parent.code == 0, parent.out + parent.err
    refused = there("observe", child, "--retrain")
    assert (refused.code, refused.json["code"]) == (2, "not-trained")
    ran = there("observe", child, "--artifact", fetched(deployed, made["artifact"]))
    assert ran.code == 0, ran.out + ran.err
    assert (ran.json["agreement"]["agrees"], ran.json["agreement"]["retrained"]) == (True, None)

    proposed = deployed.modelsmith("promote", CLUSTER, child, "--json")
    assert proposed.code == 4, proposed.out
    number = str(proposed.json["pull"])
    for words in (("approve", number, "--key", deployed.key("maya")), ("pr", "merge", number)):
        ran = deployed.modelsmith(*words, "--json")
        assert ran.code == 0, ran.out
    observations = deployed.modelsmith("verify", "--json").json["observations"]
    assert {name: [agreement["observer"] for agreement in found] for name, found in observations.items()} == {
        adapter: ["ci"],
        child: ["ci"],
    }
