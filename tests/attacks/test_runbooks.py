"""Runbooks: what an agent, a clone or a clever file could make of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from attacker import refused

from modelsmith.fleet import jobs as of_jobs
from modelsmith.mcp.calls import Session, call
from modelsmith.operations import run_job, runbook_list, runbook_play, runbook_run
from modelsmith.schema.canonical import canonical_json

PATH = "runbooks/look.json"
LOOK = {
    "runbook": "look",
    "title": "Look round",
    "about": "Whenever.",
    "parameters": {"pr": {"kind": "number", "about": "unused by agents", "default": None}},
    "steps": [
        {"id": "pulls", "about": "What is open.", "call": "pr list"},
        {"id": "chain", "about": "Who decides.", "call": "approvers", "arguments": {"pr": {"parameter": "pr"}}},
        {"id": "work", "about": "What runs here.", "call": "jobs list"},
    ],
}


def runbook_bytes(*steps, **more):
    return json.dumps(LOOK | ({"steps": list(steps)} if steps else {}) | more).encode()


def step(name, **more):
    return {"id": "a", "about": "x", "call": name} | more


@pytest.fixture
def look(fresh, monkeypatch):
    """Main has the runbook; its owner approved it."""
    monkeypatch.setenv("MODELSMITH_HOME", str(fresh.home))
    fresh.force_honestly({PATH: runbook_bytes()}, "oli")
    return fresh


def run(world, role=None, **more):
    return runbook_run.run(replace(world.workspace, role=role), runbook_run.RunbookRunRequest(name="look", **more))


def stopped_after(world, monkeypatch, steps):
    """Begin a run that is killed after so many steps; files of its records."""
    keep = runbook_play.Runs.keep

    def killed(self, run, number, record):
        keep(self, run, number, record)
        if number + 1 == steps:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runbook_play.Runs, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            run(world)
    (folder,) = (path for path in (world.workspace.private / "runbooks").iterdir() if path.is_dir())
    return sorted(folder.glob("[0-9][0-9].json"))


def test_an_honest_runbook_runs_and_goes_on_after_a_kill(look, monkeypatch):
    """The control."""
    stopped_after(look, monkeypatch, 2)
    result = run(look)
    assert (result.state, [played_step.before for played_step in result.steps]) == ("done", [True, True, False])


def test_a_runbook_planted_in_work_tree_branch_or_local_main_is_not_run(look):
    """Runbooks are read from the forge's main alone: a file elsewhere changes nothing and adds none."""
    planted = runbook_bytes(step("verify"))
    (look.clone / "runbooks").mkdir(exist_ok=True)
    (look.clone / PATH).write_bytes(planted)
    (look.clone / "runbooks" / "mine.json").write_bytes(planted.replace(b'"look"', b'"mine"'))
    local = look.commit({PATH: planted})
    look.git.run("update-ref", "refs/heads/main", local)
    assert [each_step.call for each_step in run(look).steps] == ["pr list", "approvers", "jobs list"]
    listed = runbook_list.run(look.workspace, runbook_list.RunbookListRequest())
    assert "mine" not in [runbook.runbook for runbook in listed.runbooks]


def test_a_runbook_reaches_main_by_its_owner_only(look):
    """CODEOWNERS names them; without their approval the gate stays closed, whoever else approves."""
    number = look.propose({PATH: runbook_bytes(step("verify"))}, actor="dana")
    look.approve(number, "maya")
    decision = look.gate(number).decision
    assert not decision.open
    assert set(decision.waiting_for) & {"@oncall-sre", "@platform"}


@pytest.mark.parametrize(
    "bad",
    [
        runbook_bytes(step("approve", arguments={"number": 4})),
        runbook_bytes(step("runbook run", arguments={"name": "look"})),
        runbook_bytes(step("pr merge", arguments={"number": 4, "key": "people/maya"})),
        runbook_bytes(step("doctor", arguments={"apply": True, "yes": True})),
        runbook_bytes(step("run.__globals__")),
        runbook_bytes(step("status.__class__")),
        runbook_bytes(step("pr ask", arguments={"number": {"step": "a", "field": "result.__dict__"}})),
        runbook_bytes(step("diagnose", arguments={"tag": {"env": "HOME"}})),
        runbook_bytes(step("diagnose", arguments={"tag": {"parameter": "pr", "step": "a", "field": "exit"}})),
        runbook_bytes(step("diagnose", arguments={"tag": "{{parameters.pr}}", "code": "import os"})),
        runbook_bytes(*(step("status", id=f"s{number}") for number in range(41))),
        runbook_bytes(step("status", repeat=1_000_000)),
        runbook_bytes(runbook="../look"),
        b'{"runbook": "look", "runbook": "other"}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_runbook_that_approves_escapes_or_never_ends_does_not_load(look, bad):
    """Refused as a whole before its first step, even where its owner let it through: names are looked up in tables."""
    look.force_honestly({PATH: bad}, "oli")
    with refused("invalid-file"):
        run(look)
    assert not (look.workspace.private / "runbooks").exists()


def test_a_runbook_does_nothing_that_its_caller_may_not(look):
    """The session's role, and the scopes of a token, are held against every step before the first is called."""
    with refused("outside-role"):
        run(look, role="promoter")
    narrow = Session(look.clone, "operator", ("runbook_*", "pr_list", "approver_chain"))
    reply = call(narrow, "runbook_run", {"name": "look"})
    assert (reply.refused, reply.body["code"]) == (True, "outside-role")
    assert "jobs list" in reply.body["message"]
    assert not (look.workspace.private / "runbooks").exists()
    assert run(look, role="operator").state == "done"


def test_a_runbook_that_changes_while_its_job_waits_does_no_more(look, monkeypatch):
    """Queued by a token that may call its steps; then its owner approves another step, for which the token is not."""
    monkeypatch.setattr(of_jobs, "MOST_AT_ONCE", 0)
    narrow = Session(look.clone, "operator", ("runbook_*", "pr_list", "approver_chain", "modelsmith_jobs"))
    jobs = of_jobs.Jobs.of(look.workspace)
    job = jobs.find(call(narrow, "runbook_run", {"name": "look"}).body["result"]["jobId"])
    job.folder.mkdir(parents=True)
    code, _, error = run_job._run(look.clone, job)
    assert (code, error) == (0, None), "the control"
    look.force_honestly({PATH: runbook_bytes(*LOOK["steps"], step("validate"))}, "oli")
    code, result, error = run_job._run(look.clone, job)
    assert (code, result, error["code"]) == (2, None, "outside-role")
    assert "validate" in error["message"]


def _edit(paths):
    document = json.loads(paths[0].read_bytes())
    document["record"]["result"]["pulls"] = []
    document["record"]["exit"] = 4
    paths[0].write_bytes(canonical_json(document))


def _drop(paths):
    paths[0].unlink()


def _swap(paths):
    first, second = (path.read_bytes() for path in paths)
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)


def _tear(paths):
    paths[1].write_bytes(paths[1].read_bytes()[:-9])


def _claim(paths):
    """The step that was not called yet, in the words of the one before it."""
    document = json.loads(paths[1].read_bytes())
    document["record"] |= {"step": "work", "call": "jobs list", "arguments": {}}
    paths[1].with_name("03.json").write_bytes(canonical_json(document))


@pytest.mark.parametrize("lie", [_edit, _drop, _swap, _tear, _claim])
def test_records_of_a_run_that_were_changed_are_not_believed(look, monkeypatch, lie):
    """Records are chained and sealed by this machine's key; the run ends with an integrity failure."""
    lie(stopped_after(look, monkeypatch, 2))
    with refused("bad-run-record"):
        run(look)


def test_a_planted_folder_of_runs_claims_no_step_done(look, monkeypatch, tmp_path):
    """Whole records of the same runbook and parameters, made on another machine: its key is not this one's."""
    other = look.copied_to(tmp_path / "other")
    stopped_after(other, monkeypatch, 3)
    theirs, ours = (world.workspace.private / "runbooks" for world in (other, look))
    ours.mkdir(parents=True)
    for folder in theirs.iterdir():
        folder.rename(ours / folder.name)
    with refused("bad-run-record"):
        run(look)
