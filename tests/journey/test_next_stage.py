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

    one = fresh.modelsmith("iterate", "rtb-pricing", "--max-iterations", "1", "--json")
    assert (one.code, one.json["outcome"]) == (3, "FAIL"), one.err[-2000:]
    ran = fresh.modelsmith("iterate", "rtb-pricing", "--max-iterations", "5", "--json")
    assert ran.code == 3, ran.err[-2000:]
    taken = "plateau: the last 1 iterations gained less than 1 over the best before; stage 2 of 2, dpo, is taken"
    assert ran.err.count(taken) == 1
    assert ran.json["iteration"] == 3, "and no other is begun: the last method has stopped paying, too"
    assert "plateau: " in ran.json["reason"]
    assert ran.json["recommended"]["action"]

    found = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in sorted(fresh.clone.glob("promotions/rtb-pricing/*/01-candidate/training.json"))
    }
    methods = [[stage["method"] for stage in facts["stages"]] for facts in found.values()]
    assert methods == [["sft"], ["sft"], ["sft", "dpo"]]
    assert len({facts["hyperparameters"] for facts in found.values()}) == 1, "one recipe, as the file has it"
    assert fresh.modelsmith("verify", "--json").code == 0
