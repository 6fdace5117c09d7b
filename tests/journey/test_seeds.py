"""A candidate trained with several seeds: the best on prompts set aside goes on, and all of them stand in evidence."""

from __future__ import annotations

import copy
import json

import yaml
from observing import fetched, list_observer, observer
from tiny import commit_to_root
from worlds import CLUSTER

from modelsmith.diagnosis.firewall import scored_texts
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.training_row import Prompt
from modelsmith.training.rows import read_rows

PATH = f"clusters/{CLUSTER}/cluster.yaml"
LETTERS = """\
  - id: letters
    text: There is an early letter in the answer.
    weight: 4
    check: {type: regex, pattern: "[a-h]"}
"""
STOPS = (
    "modelsmith.loop.answers:write_atomically 2 after SIGKILL",
    "modelsmith.loop.tries:seal_adapter 2 before SIGKILL",
    "modelsmith.training.supervisor:_claim 2 after SIGKILL",
)


def with_seeds(world, seeds, **loop):
    """Main asks for so many seeds of two stages, the second of which draws pairs of its own in each."""
    kit = world.clone / "evals/adtech/rtb-root-cause"
    rubric = kit / yaml.safe_load((kit / "evalset.yaml").read_text())["rubric"]
    rubric.write_text(rubric.read_text() + LETTERS)
    cluster = yaml.safe_load((world.clone / PATH).read_text())
    first = cluster["training"] | {"rows": 24, "learning_rate": 0.02}
    dpo = copy.deepcopy(first) | {"seed": 18} | {"method": "dpo", "rows": 6, "samples": 2, "steps": 2}
    cluster["training"] = [first, dpo]
    cluster["loop"] = {"seeds": seeds}
    (world.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))


def test_the_best_of_several_seeds_goes_on_wherever_it_is_killed(fresh, copies):
    with_seeds(fresh, 3)
    assert fresh.modelsmith("validate", "--json").code == 0
    commit_to_root(fresh.clone, fresh.forge)
    stopped = copies(fresh)
    result = fresh.modelsmith("iterate", CLUSTER, "--json")
    assert result.code == 4, result.err[-2000:]

    facts = json.loads((fresh.folder_of("candidate") / "training.json").read_text())
    tries = facts["tries"]
    assert [attempt["seed"] for attempt in tries["each"]] == [17, 10_017, 20_017]
    scores = [attempt["held_in"] for attempt in tries["each"]]
    best = scores.index(max(scores))
    assert facts["seed"] == tries["each"][best]["seed"]
    assert fresh.state()["artifact"] == tries["each"][best]["artifact"]
    assert len({attempt["artifact"] for attempt in tries["each"]}) == 3, "each is a training of its own"
    assert f"the best of 3 tries is number {best + 1}, held in {scores[best]:.3f}" in result.err
    assert "for the 2 left" in result.err, "how long all of them take is said"
    accepted = fresh.folder_of("eval-accepted")
    packet = (accepted / "packet.md").read_text()
    assert f"seed {facts['seed']}: {scores[best]:.3f} (chosen)" in packet
    evidence = json.loads((accepted / "evidence.json").read_text())
    assert evidence["training"]["tries"] == tries
    assert evidence["attempts"] == 1, "no try is an eval: the governed set was asked once"
    assert fresh.modelsmith("verify", "--json").json["firewall"] == {result.json["specialist"]: "recomputed"}
    late = fresh.modelsmith("strike", CLUSTER, "0" * 12, "--reason", "Late.", "--json")
    assert late.json["code"] == "rows-in-use"

    folder = fresh.private / CLUSTER / "iterations" / "001"
    apart = {row.messages[0].content for row in read_rows(folder / "held-in.jsonl", Prompt)}
    assert len(apart) == tries["asked"] > 0
    batches = [folder / "rows.jsonl", *folder.glob("**/stage-2/*.jsonl")]
    assert len(batches) == 1 + 2 + 3 * 2, "rows of the first stage; prompts and pairs of the second, and of each try"
    for path in batches:
        output = {json.loads(line)["messages"][0]["content"] for line in path.read_text().splitlines()}
        assert output, path
        assert not apart & output, "nothing is trained on what they are chosen by"
    files = Workspace(fresh.clone, fresh.home).files
    scored = {text.text for text in scored_texts(load_eval_set(files, load_cluster(files, CLUSTER).eval_set))}
    assert not scored & apart, "and none of it is scored"

    for point in STOPS:
        assert stopped.stop_at(point, "iterate", CLUSTER, "--json").code == -9, point
        assert stopped.state()["phase"] == "train", point
    again = stopped.modelsmith("iterate", CLUSTER, "--json")
    assert again.code == 4, again.err[-2000:]
    same = json.loads((stopped.folder_of("candidate") / "training.json").read_text())
    assert same["tries"] == tries


def test_a_second_machine_trains_the_chosen_try_again(fresh):
    with_seeds(fresh, 3)
    commit_to_root(fresh.clone, fresh.forge)
    result = fresh.modelsmith("iterate", CLUSTER, "--json")
    assert result.code == 4, result.err[-2000:]
    list_observer(fresh, retrained=1)
    on_second = observer(fresh)
    copied = fetched(fresh, fresh.state()["artifact"])
    iteration = fresh.private / CLUSTER / "iterations" / "001"
    again = on_second("observe", result.json["specialist"], "--retrain", "--rows", str(iteration), "--artifact", copied)
    assert again.code == 0, again.out + again.err
    assert again.json["agreement"]["retrained"] == {"identical": True, "agrees": True, "turned": []}
