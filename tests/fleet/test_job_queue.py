"""A queue of jobs: records that wait, in order, whoever dies at whatever moment. `stub_job` is what runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from fleet.stub_job import RAN

from modelsmith.fleet import jobs as of_jobs
from modelsmith.fleet.jobs import Jobs
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

HERE = Path(__file__).parent
CLUSTER = "rtb-pricing"
ELSEWHERE = """
import os, signal, sys
from pathlib import Path
from modelsmith.fleet import jobs as of_jobs
from modelsmith.repository.workspace import Workspace
from modelsmith.schema import children
of_jobs._RUNNER = "stub_job"
root, private = map(Path, sys.argv[1:])
workspace = Workspace(root, root.parent / "home")
workspace.__dict__["private"] = private
jobs = of_jobs.Jobs.of(workspace)
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
"""


class Queue:
    """A clone's jobs, and what became of them."""

    def __init__(self, folder):
        self.private = folder / "clone" / ".git" / "modelsmith"
        self.private.mkdir(parents=True)
        self.workspace = Workspace(folder / "clone", folder / "home")
        self.workspace.__dict__["private"] = self.private
        self.jobs = Jobs.of(self.workspace)

    def ask(self, cluster=CLUSTER, workspace=None, **arguments):
        return self.jobs.submit(workspace or self.workspace, "eval", arguments, cluster)

    def ran(self):
        file = self.private / RAN
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def states(self):
        return [job.state for job in reversed(self.jobs.newest())]

    def until(self, *states, look=False):
        """Wait until the jobs stand so, in the order in which they were asked for."""
        end = time.monotonic() + 60
        while self.states() != list(states):
            assert time.monotonic() < end, self.states()
            if look:
                self.jobs.go_on()
            time.sleep(0.05)

    def processes(self):
        """Processes at work for this clone."""
        pids = []
        for process in psutil.process_iter(["cmdline", "status"]):
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if alive and str(self.private) in (process.info["cmdline"] or ()):
                pids.append(process.pid)
        return pids

    def elsewhere(self, script):
        """Run a script in a process of its own; it has this queue as `jobs`, and `die`."""
        return subprocess.Popen([sys.executable, "-c", ELSEWHERE + script, self.workspace.root, self.private])


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setattr(of_jobs, "_RUNNER", "stub_job")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    job_queue = Queue(tmp_path)
    yield job_queue
    for pid in job_queue.processes():
        os.kill(pid, signal.SIGKILL)


def test_a_thousand_that_wait_are_records_without_a_process(queue):
    queue.ask(seconds=60)
    for number in range(1000):
        assert not queue.ask(number=number).started
    assert (queue.jobs.count_waiting(), len(queue.jobs.at_work())) == (1000, 1)
    assert len(queue.processes()) == 1
    assert [job.submitted.arguments["number"] for job in queue.jobs.waiting(3)] == [0, 1, 2]
    assert queue.jobs.newest(1)[0].submitted.arguments == {"number": 999}
    assert len(list((queue.private / "jobs").iterdir())) == 1, "a job that waits has no folder"


def test_no_more_wait_than_a_clone_takes(queue, monkeypatch):
    monkeypatch.setattr(of_jobs, "MOST_WAITING", 1)
    queue.ask(seconds=60)
    waits = queue.ask(number=1)
    assert queue.ask(number=1) == waits, "the same request is the same job"
    with pytest.raises(InfrastructureFailure) as caught:
        queue.ask(number=2)
    assert caught.value.code == "too-many-jobs"


def test_jobs_of_a_cluster_run_in_order_and_nobody_needs_to_look(queue):
    ids = [queue.ask(number=number, seconds=0.2, lingers=0.3).job.submitted.id for number in range(4)]
    other = queue.ask("fraud", number=9, seconds=0.1).job.submitted.id
    end = time.monotonic() + 60
    while len(queue.ran()) < 5 and time.monotonic() < end:
        time.sleep(0.1)
    of_one = [entry for entry in queue.ran() if entry["cluster"] == CLUSTER]
    assert [entry["id"] for entry in of_one] == ids
    for before, after in pairwise(of_one):
        assert before["ended"] + 0.3 <= after["began"], "it begins when the one before has let go of all that it held"
    assert [entry["id"] for entry in queue.ran() if entry["cluster"] == "fraud"] == [other]
    queue.until(*["done"] * 5)


@pytest.mark.parametrize("moment", ["at work", "before it says so", "after it says so"])
def test_a_job_that_is_killed_holds_up_no_queue_and_goes_on_first(queue, moment):
    killed = queue.ask(dies=moment, until="all-asked").job.submitted.id
    queue.ask(number=0, until="resumed")
    queue.ask(number=1)
    (queue.private / "all-asked").touch()
    first = "done" if moment == "after it says so" else "interrupted"
    queue.until(first, "queued", "queued")
    queue.jobs.go_on()
    assert queue.states()[1] == "running", "the next look starts the next"
    if first == "interrupted":
        assert queue.jobs.resume(queue.workspace, killed).state == "queued"
    (queue.private / "resumed").touch()
    if first == "interrupted":
        until = time.monotonic() + 60
        while queue.jobs.find(killed).state != "interrupted" and time.monotonic() < until:
            time.sleep(0.05)
        assert queue.states()[2] == "queued", "it went before the one that was asked for later"
    queue.until(first, "done", "done", look=True)


@pytest.mark.parametrize(
    ("moment", "there"),
    [
        ("Jobs._go_on", True),
        ("subprocess.Popen", True),
        ("fcntl.flock", True),
        ("os.close", True),
        ("_left.add", True),
        ("Records.begin", True),
        ("Records.add", False),
    ],
)
def test_a_queue_goes_on_whenever_its_starter_is_killed(queue, moment, there):
    of_children = {
        "_left.add": "children._left = type('S', (set,), {'add': die})()",
        "subprocess.Popen": "children.subprocess.Popen = die",
    }
    target = of_children.get(moment, f"of_jobs.{moment} = die")
    starter = queue.elsewhere(f"{target}\njobs.submit(workspace, 'eval', {{'number': 1, 'seconds': 0.3}}, '{CLUSTER}')")
    assert starter.wait(60) == -signal.SIGKILL
    assert len(queue.states()) == there
    job = queue.ask(number=1, seconds=0.3).job.submitted.id
    queue.until("done", look=True)
    assert [entry["id"] for entry in queue.ran()] == [job], "it ran once"


def test_many_who_ask_and_look_at_once_start_each_job_once(queue):
    asks = (
        "for n in range(4): jobs.submit(workspace, 'eval', {'number': n, 'seconds': 0.1}, 'rtb-pricing'); jobs.go_on()"
    )
    those = [queue.elsewhere(asks) for _ in range(4)]
    looking = threading.Event()

    def look():
        while not looking.is_set():
            queue.jobs.go_on()
            queue.states()
            time.sleep(0.02)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        assert [process.wait(100) for process in those] == [0] * 4
        end = time.monotonic() + 100
        while set(queue.states()) != {"done"} and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        looking.set()
        for looker in lookers:
            looker.join()
    entries = sorted(queue.ran(), key=lambda entry: entry["began"])
    assert len({entry["id"] for entry in entries}) == len(entries) == len(queue.states())
    assert all(before["ended"] <= after["began"] for before, after in pairwise(entries))
    numbers = [job.submitted.arguments["number"] for job in reversed(queue.jobs.newest())]
    assert set(numbers[:4]) == {0, 1, 2, 3}


def test_cancelling_what_waits_takes_it_out_and_what_runs_ends(queue):
    runs, waits, last = (
        queue.ask(number=number, seconds=seconds).job.submitted.id for number, seconds in enumerate((60, 0, 0))
    )
    assert queue.jobs.cancel(waits, 5).state == "cancelled"
    assert queue.jobs.find(waits).ended.exit == 130
    assert queue.jobs.cancel(runs, 20).state == "cancelled"
    queue.until("cancelled", "cancelled", "done")
    assert [entry["id"] for entry in queue.ran()] == [last]
    queue.jobs.resume(queue.workspace, waits)
    queue.until("cancelled", "done", "done")
    with pytest.raises(InvalidInput) as caught:
        queue.jobs.resume(queue.workspace, waits)
    assert caught.value.code == "job-ended"


def test_cancelling_while_others_start_it_ends_it_either_way(queue):
    for number in range(6):
        job = queue.ask(number=number, seconds=30).job.submitted.id
        looker = queue.elsewhere("jobs.go_on()")
        assert queue.jobs.cancel(job, 20).state == "cancelled"
        looker.wait(60)
        assert queue.jobs.find(job).state == "cancelled"
    assert queue.ran() == []
    assert queue.processes() == []


def test_what_was_asked_for_runs_as_who_asked_whoever_starts_it(queue, monkeypatch, tmp_path):
    asker = replace(queue.workspace, role="promoter", home=tmp_path / "theirs")
    asker.__dict__["private"] = queue.private
    monkeypatch.setattr(of_jobs, "MOST_AT_ONCE", 0)
    assert queue.ask(workspace=asker).job.state == "queued"
    monkeypatch.setattr(of_jobs, "MOST_AT_ONCE", 1)
    monkeypatch.setenv(of_jobs.ROLE, "operator")
    queue.jobs.go_on()
    queue.until("done")
    assert [(entry["role"], entry["home"]) for entry in queue.ran()] == [("promoter", str(tmp_path / "theirs"))]


def test_only_so_many_are_at_work_however_many_clusters_are_named(queue, monkeypatch):
    monkeypatch.setattr(of_jobs, "MOST_AT_ONCE", 2)
    ids = [queue.ask(f"cluster-{number}", number=number, seconds=60).job.submitted.id for number in range(4)]
    assert (len(queue.jobs.at_work()), queue.jobs.count_waiting()) == (2, 2)
    queue.jobs.cancel(ids[0], 20)
    assert queue.states() == ["cancelled", "running", "running", "queued"]


def test_a_process_that_cannot_be_started_leaves_the_job_in_the_queue(queue, monkeypatch):
    def full(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        with pytest.raises(InfrastructureFailure) as caught:
            queue.ask(number=1)
    assert caught.value.code == "job-start"
    assert queue.states() == ["queued"]
    assert queue.ask(number=1).started
    queue.until("done")


ADOPTS = """
import ctypes, json, psutil, subprocess, time
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # orphans come to this process, as to a container's first
for n in range(3): jobs.submit(workspace, 'eval', {'number': n}, 'rtb-pricing')
apart = children.start_apart([sys.executable, '-c', 'raise SystemExit(5)'])
plain = subprocess.Popen([sys.executable, '-c', 'raise SystemExit(7)'])
def zombies(): return [one.pid for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE]
end = time.monotonic() + 60
while len(zombies()) < 5 and time.monotonic() < end: time.sleep(0.05)
before = zombies()
children.reap()
left = set(zombies()) == {apart.pid, plain.pid}
print(json.dumps({"before": len(before), "left": left, "codes": [apart.wait(), plain.wait()]}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system's own first process reaps")
def test_a_container_s_first_process_leaves_no_job_behind_as_a_zombie(queue):
    """The second and third job are started by the one before, which ends; others keep their exit codes."""
    script = [sys.executable, "-c", ELSEWHERE + ADOPTS, queue.workspace.root, queue.private]
    process = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert json.loads(process.stdout) == {"before": 5, "left": True, "codes": [5, 7]}, process.stderr
    assert queue.states() == ["done"] * 3
