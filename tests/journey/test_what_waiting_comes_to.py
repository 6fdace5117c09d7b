"""A pull request waits for a person; meanwhile an owner says no, or main changes beneath it. What iterate does then."""

from __future__ import annotations

import json

import pytest

from modelsmith.loop.iterate import Loop
from modelsmith.loop.state import Pointer, StateFile
from modelsmith.promotion import governed_state as governed
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.workspace import Workspace

CORE = "evals/adtech/rtb-root-cause/scenarios"
CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"


def merge_change(world, branch, path, old, new, proposer, approver):
    """A governed change, proposed by one person and approved by another, on main."""
    text = (world.clone / path).read_text()
    assert old in text
    world.commit(branch, {path: text.replace(old, new, 1)})
    opened = world.modelsmith("pr", "open", branch, "--title", branch, "--key", world.key(proposer), "--json")
    number = str(opened.json["pull"]["number"])
    for words in (("approve", number, "--key", world.key(approver)), ("pr", "merge", number)):
        result = world.modelsmith(*words, "--json")
        assert result.code == 0, result.out


def status_of(world, number):
    return world.modelsmith("pr", "show", str(number), "--json").json["pull"]["status"]


def test_a_rejected_pull_request_is_closed_and_a_new_iteration_begins(waiting):
    specialist = waiting.state()["specialist"]
    no = waiting.modelsmith("reject", "4", "--key", waiting.key("noor"), "--reason", "held-out too low", "--json")
    assert no.code == 0, no.out
    result = waiting.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.out
    assert status_of(waiting, 4) == "closed"
    assert result.json["iteration"] == 2
    assert result.json["specialist"] != specialist
    assert result.json["reference"]["model"] == "base", "nobody deployed the rejected one"


def test_when_main_asks_another_question_the_waiting_one_is_left_behind(waiting):
    scenario = f"{CORE}/auction-timeout/timeout-core-01.yaml"
    merge_change(waiting, "sharper-scenario", scenario, "131 ms", "132 ms", "petra", "dana")
    result = waiting.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.out
    assert status_of(waiting, 4) == "closed"
    assert (result.json["iteration"], result.json["phase"]) == (2, "waiting")
    assert waiting.modelsmith("verify", "--json").code == 0


def test_when_main_moved_on_beneath_it_the_same_one_is_proposed_again(waiting):
    specialist = waiting.state()["specialist"]
    merge_change(waiting, "shorter-window", CLUSTER_FILE, "window_minutes: 60", "window_minutes: 30", "petra", "maya")
    assert waiting.modelsmith("pr", "show", "4", "--json").json["pull"]["gate"] == "closed"
    result = waiting.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.out
    assert (result.json["iteration"], result.json["specialist"]) == (1, specialist), "nothing is trained again"
    assert status_of(waiting, 4) == "closed"
    again = str(waiting.state()["pull"])
    assert again == "6"
    for words in (("approve", again, "--key", waiting.key("maya")), ("pr", "merge", again), ("verify",)):
        approval = waiting.modelsmith(*words, "--json")
        assert approval.code == 0, approval.out


@pytest.mark.parametrize("phase", ["waiting", "promote"])
def test_main_is_read_once_in_a_step_and_then_only_what_changed(waiting, monkeypatch, phase):
    reads = []
    real = governed.read_histories
    monkeypatch.setattr(governed, "read_histories", lambda *arguments: reads.append(arguments) or real(*arguments))
    harness = open_harness(Workspace(waiting.clone, waiting.home))
    stood = Pointer.model_validate_json(json.dumps(waiting.state() | {"phase": phase})).iteration()
    StateFile(harness.workspace).put(stood)
    ended = Loop(harness, "rtb-pricing", MainReader(harness)).run(None, restart=False)
    assert (ended.phase, ended.pull, len(reads)) == ("waiting", 4, 1)
