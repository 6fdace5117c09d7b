"""What a run does when it is killed, lied to, or asked by somebody who may not."""

from __future__ import annotations

import json

import pytest
from playing import must, play, states
from worlds import CLUSTER

RUN = "modelsmith.operations.runbook_records:Runs.keep"
VALUES = ("--param", f"cluster={CLUSTER}")
DAY_ONE = ("runbook", "run", "onboarding-validation", *VALUES)


def merged(world, name, runbook):
    """A runbook of one's own, let through the gate by its owner."""
    if not world.git.rev(f"refs/heads/{name}"):
        world.commit(name, {f"runbooks/{name}.json": json.dumps(runbook)})
    opened = must(world, 0, "pr", "open", name, "--title", "A runbook", "--key", world.key("dana"))
    number = str(opened["pull"]["number"])
    must(world, 0, "approve", number, "--key", world.key("petra"))
    must(world, 0, "pr", "merge", number)


def runbook(name, *steps):
    return {"runbook": name, "title": "t", "about": "a", "steps": list(steps)}


def records(world):
    """Files of steps, by run."""
    folders = (world.private / "runbooks").glob("*")
    return {folder: sorted(folder.glob("[0-9][0-9].json")) for folder in folders if folder.is_dir()}


@pytest.fixture
def fresh(fresh_template, copies):
    return copies(fresh_template)


@pytest.fixture
def deployed(deployed_template, copies):
    return copies(deployed_template)


def test_a_dry_run_shows_each_command_and_calls_nothing(fresh):
    planned = must(fresh, 0, *DAY_ONE, "--dry-run")
    assert (planned["state"], planned["run"], planned["steps"]) == ("planned", None, [])
    assert [planned_step["command"] for planned_step in planned["plan"]][-2:] == [
        f"modelsmith eval --cluster {CLUSTER} --quick --tag onboarding",
        "modelsmith results --tag onboarding",
    ]
    assert records(fresh) == {}
    assert must(fresh, 0, "runbook", "list")["runbooks"][0]["runbook"] == "deprecate-specialist"
    output = fresh.modelsmith("runbook", "show", "regression-response").out
    assert "$ modelsmith rollback '<cluster>' --reason '<reason>'" in output
    assert "$ modelsmith pr merge '<rollback.result.pull>'" in output


@pytest.mark.parametrize(("number", "moment"), [(1, "before"), (4, "after"), (7, "before"), (7, "after")])
def test_killed_at_any_step_it_goes_on_and_does_none_twice(fresh, number, moment):
    killed = fresh.stop_at(f"{RUN} {number} {moment} SIGKILL", *DAY_ONE)
    assert killed.code == -9
    steps_done = number - (moment == "before")
    contents = {path: path.read_bytes() for paths in records(fresh).values() for path in paths}
    assert len(contents) == steps_done
    ended = play(fresh, 0, "onboarding-validation", cluster=CLUSTER)
    again = steps_done == 7
    assert (
        [step["before"] for step in ended["steps"]] == [False] * 7
        if again
        else [True] * steps_done + [False] * (7 - steps_done)
    )
    assert {path: path.read_bytes() for path in contents} == contents
    assert len(records(fresh)) == 1 + again


def test_a_run_that_is_over_is_followed_by_another(fresh):
    ids = {play(fresh, 0, "onboarding-validation", cluster=CLUSTER)["run"] for _ in range(2)}
    assert len(ids) == 2


def test_anew_leaves_a_run_that_waits_behind(first_iterate, copies):
    world = copies(first_iterate[0])
    waits = play(world, 4, "nightly-iterate", cluster=CLUSTER)
    assert play(world, 4, "nightly-iterate", cluster=CLUSTER)["run"] == waits["run"]
    other = must(world, 4, "runbook", "run", "nightly-iterate", *VALUES, "--anew")
    assert other["run"] != waits["run"]
    assert not any(step["before"] for step in other["steps"])


@pytest.mark.parametrize("name", ["../../etc/passwd", "x/../nightly-iterate", ".", "NIGHTLY-ITERATE", "a\nb"])
def test_a_runbook_s_name_is_no_path(fresh, name):
    assert must(fresh, 2, "runbook", "show", name)["code"] == "unknown-runbook"


def test_a_runbook_needs_its_owner_and_cannot_call_what_does_not_fit(fresh):
    bad = runbook("late", {"id": "a", "about": "x", "call": "pr show", "arguments": {"number": "four"}})
    fresh.commit("late", {"runbooks/late.json": json.dumps(bad)})
    fresh.must("checkout", "--quiet", "late")
    problem = must(fresh, 2, "validate", "runbooks")["problems"][0]
    assert (problem["file"], problem["field"]) == ("runbooks/late.json", "steps[0].arguments.number")
    fresh.must("checkout", "--quiet", "main")
    merged(fresh, "late", bad)
    assert must(fresh, 2, "runbook", "run", "late")["code"] == "invalid-file"
    listed = must(fresh, 0, "runbook", "list")
    assert [entry["runbook"] for entry in listed["broken"]] == ["late"]
    assert len(listed["runbooks"]) == 6


def test_a_runbook_does_nothing_that_the_session_s_role_may_not(fresh):
    environment = fresh.environment() | {"MODELSMITH_ROLE": "promoter"}
    result = fresh.modelsmith(*DAY_ONE, "--json", env=environment)
    assert (result.code, result.json["code"]) == (2, "outside-role")
    assert records(fresh) == {}
    reviewer = fresh.modelsmith(*DAY_ONE, "--json", env=environment | {"MODELSMITH_ROLE": "reviewer"})
    assert (reviewer.code, reviewer.json["code"]) == (2, "outside-role")


def test_each_run_says_who_called_what_with_which_arguments(fresh):
    operator = fresh.environment() | {"MODELSMITH_ROLE": "operator"}
    assert fresh.modelsmith(*DAY_ONE, "--json", env=operator).code == 0
    (paths,) = records(fresh).values()
    step_records = [json.loads(path.read_bytes())["record"] for path in paths]
    assert {(record["actor"], record["role"], record["main"]) for record in step_records} == {
        ("modelsmith-harness", "operator", fresh.main())
    }
    assert step_records[5]["arguments"] == {"cluster": CLUSTER, "quick": True, "tag": "onboarding"}
    assert step_records[5]["exit"] == 3


def test_a_step_that_fails_ends_the_run_and_one_that_errs_is_called_again(deployed):
    wrong = must(deployed, 2, "runbook", "run", "failed-training-triage", *VALUES, "--param", "tag=none")
    assert wrong["code"] == "unknown-tag"
    (paths,) = records(deployed).values()
    last = json.loads(paths[-1].read_bytes())["record"]
    assert (last["step"], last["state"], last["error"]) == ("failures", "refused", "unknown-tag")
    never = {"step": "a", "field": "result.processors", "test": "at-most", "to": 0}
    merged(deployed, "mine", runbook("mine", {"id": "a", "about": "x", "call": "fleet", "expect": [never]}))
    failed = must(deployed, 3, "runbook", "run", "mine")
    assert (failed["state"], states(failed)) == ("failed", {"a": "failed"})
    assert must(deployed, 3, "runbook", "run", "mine")["run"] != failed["run"]
