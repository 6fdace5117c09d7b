"""`iterate` beside a front door on the same machine: it waits by the budget of the cluster file, and says so."""

from __future__ import annotations

import json
import threading
import time

import tiny
import yaml
from worlds import COMMAND

from modelsmith.fleet.doors import Busy, this_machine

CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"


def budgeted(world, **budget):
    path = world.clone / CLUSTER_FILE
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"beside_serving": budget}, sort_keys=False))


class StandIn:
    """What a front door says of itself, as often as it would, until it is closed."""

    def __init__(self, folder):
        self.folder, self.requests, self.ended = folder, 0, threading.Event()
        self.lock, self.thread = threading.Lock(), threading.Thread(target=self.keep_saying)
        folder.mkdir(parents=True)

    def say(self, requests=None):
        with self.lock:
            self.requests = self.requests if requests is None else requests
            busy = Busy(machine=this_machine(), at=time.monotonic(), requests=self.requests, answers=0, p95=None)
            (self.folder / "1-a.part").write_text(busy.model_dump_json())
            (self.folder / "1-a.part").replace(self.folder / "1-a.json")

    def keep_saying(self):
        while not self.ended.wait(0.25):
            self.say()

    def __enter__(self):
        self.say(5)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def test_eval_and_training_of_an_iteration_wait_for_a_busy_door(fresh):
    """Busy as the eval begins, and again as the training does: each waits, says for whom, and goes on afterwards."""
    budgeted(fresh, requests=1)
    tiny.commit_to_root(fresh.clone, fresh.forge)
    text = "waits for the front door since 0s: it has 5 requests, and 1 are the budget"
    waits, reported = [], []
    with StandIn(fresh.home / "doors") as door:
        running = fresh.start(COMMAND, "iterate", "rtb-pricing", "--json")
        for line in running.stderr:
            reported.append(line)
            phase = json.loads(line)["phase"] if line.startswith("{") else ""
            if text in line:
                waits.append(phase)
                door.say(0)
            elif phase == "diagnose" and "train" not in waits:
                door.say(5)
        assert running.wait(300) == 4, reported
    assert waits == ["eval", "train"], reported


def test_a_budget_that_means_nothing_or_invites_a_rollback_is_said(fresh):
    """A typing mistake, an empty block, and a training that may slow the door more than the window allows."""
    for budget, expected in (
        ({}, "say requests, p95_milliseconds or share, or leave beside_serving out"),
        ({"share": 1.5}, "1.5"),
        ({"request": 2}, "requests"),
    ):
        budgeted(fresh, **budget)
        result = fresh.modelsmith("validate")
        assert (result.code, expected in result.out + result.err) == (2, True), result.out + result.err
    budgeted(fresh, p95_milliseconds=900)
    path = fresh.clone / CLUSTER_FILE
    cluster = yaml.safe_load(path.read_text())
    cluster["rollback"]["rule"] = {"slow": {"milliseconds": 800, "max_rise": 0.05}}
    path.write_text(yaml.safe_dump(cluster, sort_keys=False))
    result = fresh.modelsmith("validate")
    assert (result.code, "Write 800 or less." in result.out) == (0, True), result.out + result.err
