"""A cluster file that lets a plateau take the next method: nobody is waked at night to add a stage."""

from __future__ import annotations

import copy
import json

import yaml
from tiny import commit_to_root

PATH = "clusters/rtb-pricing/cluster.yaml"


def test_where_a_method_has_stopped_paying_iterate_takes_the_next_one(fresh):
    cluster = yaml.safe_load((fresh.clone / PATH).read_text())
    first = cluster["training"]
    cluster["training"] = [first, copy.deepcopy(first) | {"method": "dpo", "rows": 8, "samples": 2}]
    cluster["gate"] = {"composite": 1.0, "held_out": 1.0}
    cluster["loop"] = {"plateau": {"iterations": 1, "least_gain": 1.0, "then": "next-stage"}}
    (fresh.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))
    commit_to_root(fresh.clone, fresh.forge)

    turn = fresh.modelsmith("iterate", "rtb-pricing", "--max-iterations", "1", "--json")
    assert (turn.code, turn.json["outcome"]) == (3, "FAIL"), turn.err[-2000:]
    result = fresh.modelsmith("iterate", "rtb-pricing", "--max-iterations", "5", "--json")
    assert result.code == 3, result.err[-2000:]
    message = "plateau: the last 1 iterations gained less than 1 over the best before; stage 2 of 2, dpo, is taken"
    assert result.err.count(message) == 1
    assert result.json["iteration"] == 3, "and no other is begun: the last method has stopped paying, too"
    assert "plateau: " in result.json["reason"]
    assert result.json["recommended"]["action"]

    facts_by_iteration = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in sorted(fresh.clone.glob("promotions/rtb-pricing/*/01-candidate/training.json"))
    }
    methods = [[stage["method"] for stage in facts["stages"]] for facts in facts_by_iteration.values()]
    assert methods == [["sft"], ["sft"], ["sft", "dpo"]]
    assert len({facts["hyperparameters"] for facts in facts_by_iteration.values()}) == 1, (
        "one recipe, as the file has it"
    )
    assert fresh.modelsmith("verify", "--json").code == 0
