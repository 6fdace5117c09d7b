"""A second machine repeats the eval with a real model, and the deployment waits for what it says."""

from __future__ import annotations

import copy

import yaml
from observing import fetched, list_observer, observer, put_on_main
from worlds import CLUSTER


def test_a_deployment_waits_for_a_second_machine_that_agrees(waiting):
    specialist, artifact = waiting.state()["specialist"], waiting.state()["artifact"]
    list_observer(waiting)
    refused = waiting.modelsmith("promote", CLUSTER, "--json")
    assert (refused.code, refused.json["code"], refused.json["details"]["waiting_for"]) == (4, "unobserved", ["ci"])
    assert "modelsmith observe" in waiting.modelsmith("iterate", CLUSTER, "--json").json["reason"]
    mine = waiting.modelsmith("observe", specialist, "--json")
    assert (mine.code, mine.json["code"]) == (2, "not-an-observer")

    on_second = observer(waiting)
    assert on_second("observe", specialist).json["code"] == "weights-missing"
    result = on_second("observe", specialist, "--artifact", fetched(waiting, artifact))
    assert result.code == 0, result.out + result.err
    answer = result.json["agreement"]
    assert (answer["agrees"], answer["same_engine"], answer["turned"], result.json["status"]) == (
        True,
        True,
        [],
        "merged",
    )
    assert "eval" in result.phases, "nothing is taken over"
    again = on_second("observe", specialist)
    assert (again.code, again.json["pull"], "eval" in again.phases) == (0, None, False)

    proposed = waiting.modelsmith("iterate", CLUSTER, "--json")
    assert proposed.code == 4, proposed.out + proposed.err
    number = str(proposed.json["pull"])
    assert waiting.modelsmith("pr", "show", number, "--json").json["pull"]["gate"] == "waiting"
    for words in (("approve", number, "--key", waiting.key("maya")), ("pr", "merge", number)):
        result = waiting.modelsmith(*words, "--json")
        assert result.code == 0, result.out
    verified = waiting.modelsmith("verify", "--json").json
    assert [observation["observer"] for observation in verified["observations"][specialist]] == ["ci"]
    assert "agrees" in waiting.modelsmith("verify").out
    text = on_second("validate").json
    assert text["kinds"]["observation"] == 1


def test_a_second_machine_trains_it_again_and_comes_to_the_very_same(waiting):
    specialist, artifact = waiting.state()["specialist"], waiting.state()["artifact"]
    list_observer(waiting, retrained=1)
    on_second, copy = observer(waiting), fetched(waiting, artifact)
    plain = on_second("observe", specialist, "--artifact", copy)
    assert (plain.code, plain.json["agreement"]["retrained"]) == (0, None), plain.out
    answer = waiting.modelsmith("promote", CLUSTER, "--json").json
    assert (answer["code"], "0 of 1 who must repeat the training did" in answer["message"]) == ("unobserved", True)
    assert f"modelsmith observe {specialist} --retrain" in answer["mend"]
    assert "0 of 1 who must repeat" in waiting.modelsmith("status").out

    rows = waiting.private / CLUSTER / "iterations" / "001" / "rows.jsonl"
    missing = on_second("observe", specialist, "--retrain").json
    assert missing["code"] == "rows-missing"
    assert missing["details"]["rows"] in missing["mend"]
    other = waiting.folder / "rows.jsonl"
    other.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[1:]))
    assert on_second("observe", specialist, "--retrain", "--rows", str(other)).json["code"] == "other-rows"

    result = on_second("observe", specialist, "--retrain", "--rows", str(rows))
    assert result.code == 0, result.out + result.err
    assert "train" in result.phases
    agreement = result.json["agreement"]
    assert agreement["retrained"] == {"identical": True, "agrees": True, "turned": []}
    assert "the very same artifact" in agreement["sentence"]
    again = on_second("observe", specialist, "--retrain", "--rows", str(rows))
    assert (again.code, again.json["pull"], "train" in again.phases) == (0, None, False)

    proposed = waiting.modelsmith("promote", CLUSTER, "--json")
    assert proposed.code == 4, proposed.out
    number = str(proposed.json["pull"])
    assert "trained it again from its rows (ci); the policy requires 1" in waiting.modelsmith("pr", "show", number).out
    for words in (("approve", number, "--key", waiting.key("maya")), ("pr", "merge", number)):
        result = waiting.modelsmith(*words, "--json")
        assert result.code == 0, result.out
    assert "trained again from the same rows" in waiting.modelsmith("verify").out


def test_a_second_machine_observes_an_export_whose_parent_it_trained(deployed):
    """Also when the cluster names more stages than the parent was trained in."""
    adapter, artifact = deployed.state()["specialist"], deployed.state()["artifact"]
    list_observer(deployed, retrained=1)
    path = f"clusters/{CLUSTER}/cluster.yaml"
    cluster = yaml.safe_load((deployed.clone / path).read_text())
    cluster["training"] = [cluster["training"], copy.deepcopy(cluster["training"]) | {"method": "dpo"}]
    put_on_main(deployed, "more-stages", {path: yaml.safe_dump(cluster, sort_keys=False)})
    exported = deployed.modelsmith("export", adapter, "--as", "merged", "--json").json
    child = exported["specialist"]
    on_second = observer(deployed)
    answer = deployed.modelsmith("promote", CLUSTER, child, "--json").json
    assert answer["code"] == "unobserved"

    rows = deployed.private / CLUSTER / "iterations" / "001" / "rows.jsonl"
    parent = on_second("observe", adapter, "--artifact", fetched(deployed, artifact), "--retrain", "--rows", str(rows))
    assert parent.code == 0, parent.out + parent.err
    refused = on_second("observe", child, "--retrain")
    assert (refused.code, refused.json["code"]) == (2, "not-trained")
    result = on_second("observe", child, "--artifact", fetched(deployed, exported["artifact"]))
    assert result.code == 0, result.out + result.err
    assert (result.json["agreement"]["agrees"], result.json["agreement"]["retrained"]) == (True, None)

    proposed = deployed.modelsmith("promote", CLUSTER, child, "--json")
    assert proposed.code == 4, proposed.out
    number = str(proposed.json["pull"])
    for words in (("approve", number, "--key", deployed.key("maya")), ("pr", "merge", number)):
        result = deployed.modelsmith(*words, "--json")
        assert result.code == 0, result.out
    observations = deployed.modelsmith("verify", "--json").json["observations"]
    assert {name: [agreement["observer"] for agreement in agreements] for name, agreements in observations.items()} == {
        adapter: ["ci"],
        child: ["ci"],
    }
