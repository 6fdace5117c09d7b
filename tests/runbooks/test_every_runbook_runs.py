"""Each runbook that init lays down is run: to its end, and to the person where one decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from playing import must, play, states
from worlds import CLUSTER

from modelsmith.mcp.tools import tools_of

REPOSITORY = Path(__file__).parents[2]
BASE = f"{CLUSTER}-iter-001-base"


@pytest.fixture
def deployed(deployed_template, copies):
    return copies(deployed_template)


def test_an_operator_s_tool_runs_every_runbook():
    tools = {tool.operation for tool in tools_of("operator")}
    for path in (REPOSITORY / "runbooks").glob("*.json"):
        calls = {step["call"] for step in json.loads(path.read_bytes())["steps"]}
        assert calls <= tools, path.stem


def test_init_lays_down_every_runbook_and_lists_them_with_their_owners(fresh_template):
    listed = must(fresh_template, 0, "runbook", "list")
    assert listed["broken"] == []
    assert {runbook["runbook"]: runbook["owners"] for runbook in listed["runbooks"]} == {
        path.stem: ["@oncall-sre", "@platform"] for path in (REPOSITORY / "runbooks").glob("*.json")
    }
    assert len(listed["runbooks"]) == 6


def test_day_one_is_proven_on_a_fresh_clone(fresh_template, copies):
    world = copies(fresh_template)
    played = play(world, 0, "onboarding-validation", cluster=CLUSTER)
    assert set(states(played).values()) == {"done"}
    assert must(world, 0, "results", "--tag", "onboarding")["run"]["cluster"] == CLUSTER


def test_a_night_stops_for_the_person_and_ends_once_they_approved(first_iterate, copies):
    world = copies(first_iterate[0])
    stopped = play(world, 4, "nightly-iterate", cluster=CLUSTER)
    assert states(stopped) == {"files": "done", "iterate": "done", "failures": "skipped", "approval": "waiting"}
    assert stopped["waiting_for"] == ["@head-of-trading"]
    assert "approve" in stopped["asks"]
    must(world, 0, "approve", "4", "--key", world.key("maya"))
    ended = play(world, 0, "nightly-iterate", cluster=CLUSTER)
    assert ended["run"] == stopped["run"]
    assert [step["step"] for step in ended["steps"] if step["before"]] == ["files", "iterate", "failures"]
    assert set(states(ended).values()) == {"done", "skipped"}


def test_a_regression_gives_traffic_back_and_holds_until_a_person_says_so(deployed):
    stopped = play(deployed, 4, "regression-response", cluster=CLUSTER, reason="win rate fell")
    assert states(stopped)["prove"] == "done"
    assert stopped["steps"][-1]["step"] == "hold"
    assert stopped["waiting_for"] == ["@oncall-sre"]
    assert must(deployed, 0, "status")["clusters"][0]["serving"] == [{"specialist": "base", "share": 1.0}]
    number = stopped["steps"][-1]["arguments"]["number"]
    must(deployed, 0, "approve", str(number), "--key", deployed.key("oli"))
    play(deployed, 0, "regression-response", cluster=CLUSTER, reason="win rate fell")
    assert must(deployed, 0, "status")["clusters"][0]["hold"] is None


def test_a_failed_training_is_looked_into_and_tried_by_itself(deployed):
    played = play(deployed, 0, "failed-training-triage", cluster=CLUSTER, tag=BASE)
    assert states(played)["trial"] == "done"


def test_keys_are_rotated_with_the_owners_approval(deployed):
    people = yaml.safe_load((deployed.clone / ".github/governance/people.yaml").read_text())
    noor = next(person for person in people["people"] if person["id"] == "noor")
    noor["keys"][0]["valid_before"] = "2099-01-01T00:00:00Z"
    deployed.commit("rotate", {".github/governance/people.yaml": yaml.safe_dump(people, sort_keys=False)})
    opened = must(deployed, 0, "pr", "open", "rotate", "--title", "Rotate", "--key", deployed.key("dana"))
    number = opened["pull"]["number"]
    stopped = play(deployed, 4, "key-rotation", pr=number)
    assert stopped["waiting_for"] == ["@platform"]
    must(deployed, 0, "approve", str(number), "--key", deployed.key("petra"))
    ended = play(deployed, 0, "key-rotation", pr=number)
    assert states(ended)["machine"] == "done"


def test_a_specialist_is_retired_by_whoever_may_decide_it(deployed):
    specialist = deployed.state()["specialist"]
    stopped = play(deployed, 4, "deprecate-specialist", cluster=CLUSTER, specialist=specialist)
    assert stopped["waiting_for"] == ["@head-of-trading"]
    number = stopped["steps"][-1]["arguments"]["number"]
    must(deployed, 0, "approve", str(number), "--key", deployed.key("maya"))
    play(deployed, 0, "deprecate-specialist", cluster=CLUSTER, specialist=specialist)
    assert must(deployed, 0, "status")["clusters"][0]["specialists"][0]["state"] == "deprecated"
