"""A training of three stages, SFT, DPO on what the model still gets wrong, GRPO, killed on the way or not."""

from __future__ import annotations

import copy
import json
import re

import yaml
from judged import TONE_YAML
from observing import fetched, list_observer, observer, put_on_main
from tiny import commit_to_root
from tiny_judge import write_tiny_judge

from modelsmith.evaluation.reward import reward_digest

PATH = "clusters/rtb-pricing/cluster.yaml"
WORDS = ("", "e", "pass", "Nobody bids.", "!!", "a b c d", "zzzz", "{}", "0.1", "timeout", "?", "x" * 30)
STOPS = (
    "modelsmith.loop.recipe:seal_adapter 1 after SIGKILL",
    "modelsmith.loop.answers:write_atomically 1 after SIGKILL",
    "modelsmith.training.supervisor:_claim 2 after SIGKILL",
)


def with_stages(world, number):
    """The cluster's file with the first so many of three stages."""
    cluster = yaml.safe_load((world.clone / PATH).read_text())
    first = cluster["training"]
    dpo = copy.deepcopy(first) | {"method": "dpo", "rows": 8, "samples": 2, "learning_rate": 0.01}
    grpo = copy.deepcopy(first) | {"method": "grpo", "steps": 2, "batch_size": 4, "group_size": 2}
    cluster["training"] = [first, dpo, grpo | {"max_completion_tokens": 8}][:number]
    return yaml.safe_dump(cluster, sort_keys=False)


def stages(world):
    (world.clone / PATH).write_text(with_stages(world, 3))
    commit_to_root(world.clone, world.forge)


def test_stages_follow_one_another_and_the_record_names_each(fresh, copies):
    stages(fresh)
    stopped = copies(fresh)
    result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.err[-2000:]

    facts = json.loads((fresh.folder_of("candidate") / "training.json").read_text())
    sft, dpo, grpo = facts["stages"]
    assert [stage["method"] for stage in facts["stages"]] == ["sft", "dpo", "grpo"]
    assert [sft["steps"], dpo["steps"], grpo["steps"], facts["steps"]] == [4, 4, 2, 10]
    assert grpo["parent"] not in (None, dpo["parent"])
    assert sft["parent"] is None
    assert dpo["parent"].startswith("sha256:"), "DPO goes on from what SFT has left"
    assert 0 < dpo["rows"] <= 8
    assert facts["rows"] == sft["rows"] + dpo["rows"] + grpo["rows"]
    assert "stage 2 of 3, dpo" in result.err
    accepted = fresh.folder_of("eval-accepted")
    assert "](training.svg)" in (accepted / "packet.md").read_text()
    curve = (accepted / "training.svg").read_text()
    for stage in ("stage 1 of 3, sft: 4 of 4 steps", "stage 3 of 3, grpo: 2 of 2 steps", "greedy, held in"):
        assert stage in curve, "reviewers see how each stage went"
    assert fresh.modelsmith("verify", "--json").code == 0

    by_hand = ("train", "--cluster", "rtb-pricing", "--eval-tag", "rtb-pricing-iter-001-base")
    trained = fresh.modelsmith(*by_hand, "--stage", "1", "--json")
    assert trained.code == 0, trained.out
    assert (trained.json["method"], trained.json["steps"], trained.json["parent"]) == ("sft", 4, "base")
    assert "by the last training of this kind" in trained.err, "how long it takes is said before it starts"
    assert trained.json["artifact"] == dpo["parent"], "by hand as in the loop: what DPO went on from"
    measured = fresh.modelsmith("eval", "--cluster", "rtb-pricing", "--model", trained.json["artifact"], "--json").json
    assert measured["run"]["weights"] == trained.json["artifact"], "what came of it can be measured, and compared"
    compared = fresh.modelsmith("compare", "rtb-pricing-iter-001-base", measured["run"]["tag"], "--json")
    assert compared.code == 0, compared.out
    again = fresh.modelsmith(*by_hand, "--stage", "1")
    assert (again.code, "trained before" in again.out) == (0, True)
    refused = fresh.modelsmith(*by_hand, "--stage", "4", "--json")
    assert (refused.code, refused.json["code"]) == (2, "no-such-stage")
    refused = fresh.modelsmith(*by_hand, "--stage", "1", "--method", "dpo", "--json")
    assert refused.json["message"].endswith("has no stage 1 by dpo.")

    for point in STOPS:
        assert stopped.stop_at(point, "iterate", "rtb-pricing", "--json").code == -9, point
        assert stopped.state()["phase"] == "train", point
    again = stopped.modelsmith("iterate", "rtb-pricing", "--json")
    assert again.code == 4, again.err[-2000:]
    assert again.json["specialist"] == result.json["specialist"], "the same adapter, wherever it was killed"


def test_a_second_machine_trains_every_stage_again(fresh):
    """Also when the cluster names fewer stages by then."""
    fewer = with_stages(fresh, 1)
    stages(fresh)
    result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.err[-2000:]
    specialist = result.json["specialist"]
    list_observer(fresh, retrained=1)
    put_on_main(fresh, "fewer-stages", {PATH: fewer})
    on_second = observer(fresh)
    copied = fetched(fresh, fresh.state()["artifact"])
    iteration = fresh.private / "rtb-pricing" / "iterations" / "001"

    missing = on_second("observe", specialist, "--retrain")
    assert (missing.code, missing.json["code"]) == (2, "rows-missing")
    assert "copy that folder here" in missing.json["mend"]
    assert str(iteration.relative_to(fresh.clone)) in missing.json["mend"]
    one_file = on_second("observe", specialist, "--retrain", "--rows", str(iteration / "rows.jsonl"))
    assert (one_file.code, one_file.json["code"]) == (2, "other-rows"), one_file.out

    again = on_second("observe", specialist, "--retrain", "--rows", str(iteration), "--artifact", copied)
    assert again.code == 0, again.out + again.err
    assert "stage 2 of 3, dpo" in again.err
    assert again.json["agreement"]["retrained"] == {"identical": True, "agrees": True, "turned": []}


def test_a_judge_rewards_answers_in_the_loop_and_the_gate_knows_it(fresh):
    """A real judge, in the worker's process and in the evals; the record names it, and main's gate and verify agree."""
    kit = fresh.clone / "evals" / "adtech" / "rtb-root-cause"
    weights = fresh.folder / "judge"
    digest = write_tiny_judge(weights, [f"[[answer {'0' * 32}]]\n| {word}\n[[end of answer" for word in WORDS])
    source = {"name": "tiny-judge", "uri": f"file://{weights}", "digest": digest, "license": "MIT"}
    evalset = yaml.safe_load((kit / "evalset.yaml").read_text())
    evalset["judge"] = {"name": "small", "base_model": source, "max_new_tokens": 16}
    (kit / "evalset.yaml").write_text(yaml.safe_dump(evalset, sort_keys=False))
    rubric = kit / evalset["rubric"]
    rubric.write_text(rubric.read_text() + TONE_YAML)
    cluster = yaml.safe_load(with_stages(fresh, 3))
    cluster["training"] = cluster["training"][2] | {"judge_calls": 5}
    (fresh.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))
    (problem,) = fresh.modelsmith("validate", "--json").json["problems"]
    assert "the first step alone may ask the judge 7 times" in problem["message"]
    cluster["training"]["judge_calls"] = 40
    (fresh.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))
    commit_to_root(fresh.clone, fresh.forge)

    result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.err[-2000:]
    assert re.search(r"judge \d+ of 40 calls", result.err)
    facts = json.loads((fresh.folder_of("candidate") / "training.json").read_text())
    evidence = json.loads((fresh.folder_of("eval-accepted") / "evidence.json").read_text())
    assert facts["trained_judge"] == evidence["judge"]["identity"]
    assert facts["trained_reward"] == reward_digest(evidence["rubric"], judge=facts["trained_judge"])
    assert fresh.modelsmith("verify", "--json").code == 0
