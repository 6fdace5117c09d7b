"""Long work goes on by itself: queued by cluster, followed, cancelled, lost in a reboot and taken up again."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from worlds import CLUSTER

from modelsmith.fleet.jobs import Asked, Jobs
from modelsmith.mcp.calls import Session, call
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput

TAG = {"cluster": CLUSTER, "quick": True, "tag": "by-agent"}


def result(world, name, **arguments):
    reply = call(Session(world.clone, "operator"), name, arguments)
    assert not reply.refused, reply.body
    return reply.body["result"]


def until(world, job, *states, seconds=400):
    """The job, once it stands so."""
    end = time.monotonic() + seconds
    while (shown := result(world, "modelsmith_train_status", jobId=job))["job"]["status"] not in states:
        assert time.monotonic() < end, shown
        time.sleep(0.1)
    return shown


@contextmanager
def one_before(world):
    """A job of the cluster that is at work, held by the test itself."""
    folder = Jobs(Workspace.find(world.clone))._folder / "00000001"
    folder.mkdir(parents=True)
    asked = Asked(id="00000001", operation="eval", arguments={}, cluster=CLUSTER, at=datetime.now(UTC) - timedelta(1))
    (folder / "job.json").write_text(asked.model_dump_json())
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    (folder / "ended.json").write_text('{"exit": 0, "result": {}, "error": null, "at": "2026-01-01T00:00:00Z"}')


def test_a_job_waits_its_turn_is_started_once_survives_a_kill_and_goes_on_under_its_id(fresh):
    with one_before(fresh):
        job = result(fresh, "modelsmith_eval_run", **TAG)
        assert (job["status"], job["tag"]) == ("queued", "by-agent")
        assert result(fresh, "modelsmith_eval_run", **TAG)["jobId"] == job["jobId"], "the same request is the same job"
        assert result(fresh, "modelsmith_eval_run", **TAG | {"tag": "other"})["jobId"] != job["jobId"]
        assert until(fresh, job["jobId"], "queued")["job"]["exit"] is None
        listed = {one["jobId"]: one for one in result(fresh, "modelsmith_jobs")["jobs"]}
        for one in listed.values():
            if one["jobId"] != "00000001":
                pid = int((fresh.private / "jobs" / one["jobId"] / "pid").read_text())
                os.killpg(pid, signal.SIGKILL)
        assert until(fresh, job["jobId"], "interrupted")["result"] is None
        again = result(fresh, "modelsmith_eval_run", **TAG)
        assert again["jobId"] == job["jobId"], "what a reboot ended goes on"
    ended = until(fresh, job["jobId"], "done", "failed")
    assert ended["job"]["exit"] == 3, "a part of the set is never enough"
    assert ended["result"]["run"]["tag"] == "by-agent"
    assert any("eval" in line for line in result(fresh, "modelsmith_job_log", jobId=job["jobId"])["lines"])
    shown = fresh.modelsmith("jobs", "show", job["jobId"])
    assert "exit code 3" in shown.out
    assert result(fresh, "modelsmith_eval_results", tag="by-agent")["run"]["tag"] == "by-agent"


def test_an_agent_cannot_fill_the_machine_with_jobs(fresh, monkeypatch):
    monkeypatch.setattr("modelsmith.fleet.jobs.MOST_AT_ONCE", 1)
    with one_before(fresh):
        reply = call(Session(fresh.clone, "operator"), "modelsmith_eval_run", TAG)
        assert (reply.refused, reply.body["code"]) == (True, "too-many-jobs")


def test_a_job_that_is_cancelled_ends_and_one_that_fails_says_why(fresh):
    with one_before(fresh):
        job = result(fresh, "modelsmith_eval_run", **TAG)["jobId"]
        time.sleep(0.3)
        assert result(fresh, "modelsmith_job_cancel", jobId=job)["job"]["status"] == "cancelled"
    failed = result(fresh, "modelsmith_eval_run", cluster=CLUSTER, domain="medicine")["jobId"]
    ended = until(fresh, failed, "failed")
    assert (ended["job"]["exit"], ended["error"]["code"]) == (2, "other-domain")
    jobs = Jobs(Workspace.find(fresh.clone))
    assert jobs.cancel(failed, 1.0).state == "failed", "what has ended stays so"
    with pytest.raises(InvalidInput) as caught:
        jobs.resume(failed)
    assert caught.value.code == "job-ended"


@pytest.mark.parametrize("name", ["0", "../../../etc", "00000000", "a" * 5000, ""])
def test_no_id_leads_out_of_the_folder_of_jobs(fresh, name):
    reply = call(Session(fresh.clone, "operator"), "modelsmith_job_log", {"jobId": name})
    assert reply.body["code"] in ("unknown-job", "usage")
