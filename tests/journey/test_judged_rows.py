"""A rubric with a judged point, and rows of the customer's that a real judge lets pass, or not, in the loop."""

from __future__ import annotations

import hashlib
import json

import yaml
from judged import TONE_YAML
from tiny import commit_to_root
from tiny_judge import write_tiny_judge
from worlds import CLUSTER

PATH = f"clusters/{CLUSTER}/cluster.yaml"
RIGHT = [json.dumps({"cause": "timeout", "action": "cut_latency"}, indent=n) for n in range(8)]
NOTES = (
    "Zagreb replies land forty ms late because the feature store stalls before we speak.",
    "Our Osaka box answers after the buzzer; its disk queue is long since Tuesday.",
    "Nothing leaves Lima in time: garbage collection pauses each bidder process.",
    "Half of Nairobi's offers miss the deadline while a lock is held by the budget sync.",
    "Oslo speaks too slowly to that marketplace, its model loads anew for every call.",
    "The Quito shard needs twice the window that this exchange grants for a reply.",
)


def test_a_judge_lets_rows_pass_and_the_record_says_which(fresh):
    kit = fresh.clone / "evals/adtech/rtb-root-cause"
    weights = fresh.folder / "judge"
    rows = [f"[[answer {'0' * 32}]]\n| {text}\n[[end of answer" for text in RIGHT]
    source = {"name": "tiny-judge", "uri": f"file://{weights}", "license": "MIT"}
    source["digest"] = write_tiny_judge(weights, rows)
    evalset = yaml.safe_load((kit / "evalset.yaml").read_text())
    evalset["judge"] = {"name": "small", "base_model": source, "max_new_tokens": 16}
    (kit / "evalset.yaml").write_text(yaml.safe_dump(evalset, sort_keys=False))
    rubric = kit / evalset["rubric"]
    rubric.write_text(rubric.read_text() + TONE_YAML)
    data = fresh.folder / "ours"
    data.mkdir()
    lines = "\n".join(json.dumps({"note": note, "right": right}) for note, right in zip(NOTES, RIGHT, strict=False))
    (data / "tickets.jsonl").write_text(lines)
    (kit / "datasets").mkdir()
    manifest = {
        "id": "tickets", "uri": "file:tickets.jsonl", "format": "jsonl", "license": "LicenseRef-ours",
        "digest": f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}", "owner": "domain-lead",
        "columns": {"prompt": "note", "answer": "right"}, "capability": "auction-timeout",
        "retain_until": "2990-01-01",
    }  # fmt: skip
    (kit / "datasets/tickets.yaml").write_text(yaml.safe_dump(manifest))
    fresh.must("config", "modelsmith.datasets", str(data))
    cluster = yaml.safe_load((fresh.clone / PATH).read_text())
    cluster["training"]["sources"] = {"datasets": {"share": 0.5, "names": ["tickets"]}}
    (fresh.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))
    (problem,) = fresh.modelsmith("validate", "--json").json["problems"]
    assert "does not say how often it may be asked" in problem["message"]
    cluster["training"]["judge_calls"] = 20
    cluster["loop"] = {"seeds": 2, "judge_calls": 2}
    (fresh.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))
    (problem,) = fresh.modelsmith("validate", "--json").json["problems"]
    assert "each try may ask the judge 3 times" in problem["message"]
    cluster["loop"]["judge_calls"] = 3
    (fresh.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))
    assert fresh.modelsmith("validate", "--json").json["problems"] == []
    commit_to_root(fresh.clone, fresh.forge)

    result = fresh.modelsmith("iterate", CLUSTER, "--json")
    assert result.code == 4, result.err[-2000:]
    (tickets,) = fresh.modelsmith("review-synthetic", CLUSTER, "--json").json["sources"]
    assert tickets["kept"] >= 1
    assert tickets["rejected"]["fails-rubric"] >= 1, "the judge passes some and fails others"
    facts = json.loads((fresh.folder_of("candidate") / "training.json").read_text())
    accepted = fresh.folder_of("eval-accepted")
    evidence = json.loads((accepted / "evidence.json").read_text())
    assert facts["rows_judge"] == facts["tries"]["judge"] == evidence["judge"]["identity"]
    assert (facts["sources"], facts["trained_judge"]) == ({"dataset": tickets["kept"]}, None)
    assert "judge of rows" in (accepted / "packet.md").read_text()
    assert fresh.modelsmith("verify", "--json").code == 0
