"""Every error of a phase leads to its mend, and its mend leads on; status says where one stands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tiny
import yaml
from worlds import CLUSTER

CLUSTER_FILE = f"clusters/{CLUSTER}/cluster.yaml"
SET = "evals/adtech/rtb-root-cause"
GENERATOR = f"{SET}/generators/auction-timeout.yaml"
DRIVER = Path(__file__).with_name("stop_at.py")


def iterate(world, code, *words):
    result = world.modelsmith("iterate", CLUSTER, *words, "--json")
    assert result.code == code, result.out + result.err
    return result.json


def status(world):
    result = world.modelsmith("status", "--json")
    assert result.code == 0, result.out
    return result.json["clusters"][0]


def edit(world, path, **values):
    """Edit a governed file of the clone."""
    tiny._edit(world.clone / path, **values)


def land(world):
    """What is edited is what history begins with, as if nothing had been before."""
    tiny.commit_to_root(world.clone, world.forge)
    world.must("update-ref", "-d", "refs/modelsmith/main")


def test_every_error_of_a_phase_is_followed_to_its_mend(fresh):
    """Everything is wrong at first; each call of iterate names one thing, and the next one gets past it."""
    world = fresh
    evalset = yaml.safe_load((world.clone / SET / "evalset.yaml").read_text())
    training = yaml.safe_load((world.clone / CLUSTER_FILE).read_text())["training"]
    sampling, separation = evalset["sampling"], evalset["separation"]

    edit(world, f"{SET}/evalset.yaml", sampling=sampling | {"max_new_tokens": 1020}, separation={
        **separation, "training_to_scored": 0.01,
    })  # fmt: skip
    edit(world, CLUSTER_FILE, training=[training, training | {"lora": {"rank": 3, "alpha": 4}}])
    edit(world, GENERATOR, answer="It is the timeout.")
    land(world)

    error = iterate(world, 2)
    assert error["code"] == "prompt-too-long"
    assert f"core/{error['details']['scenario']}: The prompt has" in error["message"]
    assert "max_new_tokens" in error["mend"]
    state = status(world)
    assert (state["error"]["code"], state["phase"], state["running"]) == ("prompt-too-long", "eval", None)
    assert state["next"] == {"operation": "iterate", "arguments": {"cluster": CLUSTER}}
    assert error["mend"] in state["why"]
    assert iterate(world, 2)["code"] == "prompt-too-long", "nothing was mended"

    edit(world, f"{SET}/evalset.yaml", sampling=sampling)
    land(world)
    error = iterate(world, 2)
    assert (error["code"], error["details"]["generator"]) == ("generator-answer", "auction-timeout")

    edit(world, GENERATOR, answer=None)
    land(world)
    error = iterate(world, 2)
    assert error["code"] == "no-rows"
    assert {generator["generator"] for generator in error["details"]["generators"]} == {
        "auction-timeout",
        "invalid-traffic",
    }

    edit(world, f"{SET}/evalset.yaml", separation=separation)
    land(world)
    assert iterate(world, 2)["code"] == "parent-shape"

    edit(world, CLUSTER_FILE, training=training)
    land(world)
    (world.private / "state.json").unlink()
    assert iterate(world, 4)["iteration"] == 5, "one iteration for each mend, also when the state is lost"
    tags = {path.name for path in (world.private / CLUSTER / "runs").iterdir()}
    assert {f"{CLUSTER}-iter-00{number}-base" for number in range(1, 6)} <= tags, "nothing was thrown away"
    assert status(world)["error"] is None


def test_status_says_what_runs_how_far_it_is_and_that_a_candidate_failed(fresh):
    world = fresh
    evalset = yaml.safe_load((world.clone / SET / "evalset.yaml").read_text())
    edit(world, f"{SET}/evalset.yaml", thresholds={"composite": 0.9, "held_out": 0.9})
    land(world)
    point = "modelsmith.loop.preparing:generate_prompts 1 before PAUSE"
    process = world.start(sys.executable, DRIVER, point, "iterate", CLUSTER)
    try:
        for line in process.stderr:
            if line == "paused\n":
                break
        running = status(world)["running"]
        assert (running["phase"], running["done"], running["total"]) == ("eval", 16, 16), running
        assert "running" in world.modelsmith("status").out
    finally:
        process.kill()
        process.communicate()
    assert status(world)["running"] is None
    iterate(world, 3, "--max-iterations", "1")
    (specialist,) = status(world)["specialists"]
    assert (specialist["state"], specialist["verdict"], specialist["composite"]) == ("candidate", "FAIL", 0.0)
    assert "FAIL  composite 0.000, by the rule of its day" in world.modelsmith("status").out

    world.changed(
        f"{SET}/evalset.yaml", lambda document: document.update(thresholds=evalset["thresholds"]), "petra", "dana"
    )
    result = world.modelsmith("promote", CLUSTER, "--json")
    assert (result.code, result.json["code"]) == (2, "nothing-to-promote")
    assert "failed by the rule of its day" in json.dumps(result.json)
