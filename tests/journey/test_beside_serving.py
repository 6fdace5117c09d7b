"""`iterate` beside a front door on the same machine: it waits by the budget of the cluster file, and says so."""

from __future__ import annotations

import json
import platform
import threading
import time

import tiny
import yaml

from modelsmith.fleet.doors import Busy

CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"


def budgeted(world, **budget):
    path = world.clone / CLUSTER_FILE
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"beside_serving": budget}, sort_keys=False))


def test_eval_and_training_of_an_iteration_wait_for_a_busy_door(fresh):
    """A door that is busy for a while whenever somebody looks anew: work stops, says for whom, and ends as ever."""
    budgeted(fresh, requests=1)
    tiny.commit_to_root(fresh.clone, fresh.forge)
    ended, doors = threading.Event(), fresh.home / "doors"
    doors.mkdir(parents=True)

    def door():
        turn = 0
        while not ended.wait(0.5):
            busy = Busy(machine=platform.node(), at=time.monotonic(), requests=turn % 2 * 5, answers=0, p95=None)
            (doors / "1-a.part").write_text(busy.model_dump_json())
            (doors / "1-a.part").replace(doors / "1-a.json")
            turn += 1

    thread = threading.Thread(target=door)
    thread.start()
    ran = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    ended.set()
    thread.join()
    assert ran.code == 4, ran.err[-2000:]
    said = "waits for the front door since 0s: it has 5 requests, and 1 are the budget"
    waits = {json.loads(line)["phase"] for line in ran.err.splitlines() if said in line}
    assert waits == {"eval", "train"}, ran.err[-3000:]


def test_a_budget_that_means_nothing_or_invites_a_rollback_is_said(fresh):
    """A typing mistake, an empty block, and a training that may slow the door more than the window allows."""
    for budget, said in (
        ({}, "say requests, p95_milliseconds or share, or leave beside_serving out"),
        ({"share": 1.5}, "1.5"),
        ({"request": 2}, "requests"),
    ):
        budgeted(fresh, **budget)
        ran = fresh.modelsmith("validate")
        assert (ran.code, said in ran.out + ran.err) == (2, True), ran.out + ran.err
    budgeted(fresh, p95_milliseconds=900)
    path = fresh.clone / CLUSTER_FILE
    cluster = yaml.safe_load(path.read_text())
    cluster["rollback"]["rule"] = {"slow": {"milliseconds": 800, "max_rise": 0.05}}
    path.write_text(yaml.safe_dump(cluster, sort_keys=False))
    ran = fresh.modelsmith("validate")
    assert (ran.code, "Write 800 or less." in ran.out) == (0, True), ran.out + ran.err
