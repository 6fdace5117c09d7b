"""Long work goes on by itself: queued by cluster, followed, cancelled, lost in a reboot and taken up again.

What a queue does when its starters die is in `tests/fleet/test_job_queue.py`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from agents.conftest import jobs_of, one_before
from worlds import CLUSTER, DRIVER

from modelsmith.fleet import jobs as of_jobs
from modelsmith.mcp.calls import Session, call
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput

TAG = {"cluster": CLUSTER, "quick": True, "tag": "by-agent"}


def result(world, name, /, **arguments):
    reply = call(Session(world.clone, "operator"), name, arguments)
    assert not reply.refused, reply.body
    return reply.body["result"]


def until(world, job, *states, seconds=400):
    """The job, once it stands so."""
    end = time.monotonic() + seconds
    while (status := result(world, "modelsmith_train_status", jobId=job))["job"]["status"] not in states:
        assert time.monotonic() < end, status
        time.sleep(0.1)
    return status


def test_a_job_waits_starts_once_survives_a_kill_and_goes_on_under_its_id(fresh):
    with one_before(fresh):
        job = result(fresh, "modelsmith_eval_run", **TAG)
        assert (job["status"], job["tag"]) == ("queued", "by-agent")
        assert result(fresh, "modelsmith_eval_run", **TAG)["jobId"] == job["jobId"], "the same request is the same job"
        other = result(fresh, "modelsmith_eval_run", **TAG | {"tag": "other"})["jobId"]
        assert other != job["jobId"]
        assert until(fresh, job["jobId"], "queued")["job"]["exit"] is None
        assert result(fresh, "modelsmith_job_log", jobId=job["jobId"])["lines"] == [], "nothing runs, nothing is said"
        assert result(fresh, "modelsmith_jobs")["queued"] == 2
        assert result(fresh, "modelsmith_job_cancel", jobId=other)["job"]["status"] == "cancelled"
    assert until(fresh, job["jobId"], "running"), "whoever looks starts it"
    os.killpg(jobs_of(fresh)._records.find(job["jobId"]).pid, signal.SIGKILL)
    assert until(fresh, job["jobId"], "interrupted")["result"] is None
    again = result(fresh, "modelsmith_eval_run", **TAG)
    assert (again["jobId"], again["status"]) == (job["jobId"], "started"), "what a reboot ended goes on"
    ended = until(fresh, job["jobId"], "done", "failed")
    assert ended["job"]["exit"] == 3, "a part of the set is never enough"
    assert ended["result"]["run"]["tag"] == "by-agent"
    assert any("eval" in line for line in result(fresh, "modelsmith_job_log", jobId=job["jobId"])["lines"])
    page = fresh.modelsmith("jobs", "show", job["jobId"])
    assert "exit code 3" in page.out
    assert result(fresh, "modelsmith_eval_results", tag="by-agent")["run"]["tag"] == "by-agent"


def test_an_agent_cannot_fill_the_machine_with_jobs(fresh, monkeypatch):
    with one_before(fresh):
        monkeypatch.setattr(of_jobs, "MOST_WAITING", 0)
        reply = call(Session(fresh.clone, "operator"), "modelsmith_eval_run", TAG)
        assert (reply.refused, reply.body["code"]) == (True, "too-many-jobs")


def test_a_job_that_is_cancelled_ends_and_one_that_fails_says_why(fresh):
    with one_before(fresh):
        job = result(fresh, "modelsmith_eval_run", **TAG)["jobId"]
        assert result(fresh, "modelsmith_job_cancel", jobId=job)["job"]["status"] == "cancelled"
    failed = result(fresh, "modelsmith_eval_run", cluster=CLUSTER, domain="medicine")["jobId"]
    ended = until(fresh, failed, "failed")
    assert (ended["job"]["exit"], ended["error"]["code"]) == (2, "other-domain")
    jobs = jobs_of(fresh)
    assert jobs.cancel(failed, 1.0).state == "failed", "what has ended stays so"
    with pytest.raises(InvalidInput) as caught:
        jobs.resume(Workspace.find(fresh.clone), failed)
    assert caught.value.code == "job-ended"


def test_what_could_only_fail_is_refused_before_it_is_queued(fresh):
    session = Session(fresh.clone, "operator")
    for name, arguments, code in (
        ("modelsmith_eval_run", {"cluster": "../../x"}, "unknown-cluster"),
        ("modelsmith_iterate", {"cluster": "rtb-prcing"}, "unknown-cluster"),
        ("runbook_run", {"name": "key-rotation", "param": ["pr=4 --key x"]}, "bad-parameter"),
        ("runbook_run", {"name": "nightly-iterate", "param": []}, "bad-parameter"),
    ):
        assert call(session, name, arguments).body["code"] == code
    assert result(fresh, "modelsmith_jobs")["jobs"] == []


@pytest.mark.parametrize("name", ["0", "../../../etc", "00000000", "a" * 5000, ""])
def test_no_id_leads_out_of_the_folder_of_jobs(fresh, name):
    reply = call(Session(fresh.clone, "operator"), "modelsmith_job_log", {"jobId": name})
    assert reply.body["code"] in ("unknown-job", "usage")


def test_a_runbook_by_tool_answers_at_once_and_does_no_step_twice(fresh):
    """It takes its turn with its cluster's jobs; killed, it goes on at the step that it was at."""
    fields = {"name": "onboarding-validation", "param": [f"cluster={CLUSTER}"]}

    def record_files():
        return {path: path.read_bytes() for path in fresh.private.glob("runbooks/*/[0-9][0-9].json")}

    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(of_jobs, "_RUNNER", "killed_runner")
        killed.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{DRIVER.parent}")
        with one_before(fresh):
            job = result(fresh, "runbook_run", **fields)
            assert (job["status"], job["cluster"]) == ("queued", CLUSTER)
            assert result(fresh, "runbook_run", **fields)["jobId"] == job["jobId"]
        until(fresh, job["jobId"], "interrupted")
    before = record_files()
    assert len(before) == 2, "it was killed when its third step was done, and before that was written down"
    assert result(fresh, "modelsmith_job_resume", jobId=job["jobId"])["job"]["jobId"] == job["jobId"]
    ended = until(fresh, job["jobId"], "done", "failed")
    assert (ended["job"]["exit"], ended["result"]["state"]) == (0, "done"), ended
    assert [step["before"] for step in ended["result"]["steps"]] == [True] * 2 + [False] * 5
    assert {path: path.read_bytes() for path in before} == before
    assert len({path.parent for path in record_files()}) == 1, "one run"
