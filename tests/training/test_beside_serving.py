"""A training that shares its machine with a front door leaves it the budget that the cluster file states."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from dataclasses import replace

import pytest
from doors import opened, run, until
from trainings import Case, Thread, same_weights, train

from modelsmith.door.server import tell_busy
from modelsmith.fleet import doors as of_doors
from modelsmith.fleet.doors import Busy, DoorSign, busy_doors, this_machine
from modelsmith.fleet.folder import lines_since
from modelsmith.fleet.yielding import Yielding
from modelsmith.schema.beside import BesideServing
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Lora, Sft
from modelsmith.schema.training_row import TrainingRow
from modelsmith.training import supervisor, worker
from modelsmith.training.job import heartbeats, waits
from modelsmith.training.rows import write_rows

STEPS = 40
AT_MOST_TWO = BesideServing(requests=2)


@pytest.fixture(scope="module")
def job(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [Message(role="user", content=f"Note {n}") for n in range(10)]
    write_rows(path, [TrainingRow(messages=(m,), answer="x", generator="g", template="t", points=("c",)) for m in rows])
    training = Sft(steps=STEPS, batch_size=3, checkpoint_every=30, lora=Lora(rank=4, alpha=8, dropout=0.1))
    return Case(tiny_model, path, training)


@pytest.fixture(scope="module")
def undisturbed(job, tmp_path_factory):
    return train(tmp_path_factory.mktemp("undisturbed"), job, Thread(), lambda beat: None).adapter


class Seen:
    """What a worker has said so far."""

    def __init__(self, folder):
        self._file = folder / "heartbeat.jsonl"

    @property
    def steps(self):
        return len(heartbeats(lines_since(self._file, 0)[0]))

    @property
    def reasons(self):
        return [wait.waits for wait in waits(lines_since(self._file, 0)[0])]


def door_says(folder, requests, ago=0.0):
    """A door of this machine, as its file says it."""
    folder.mkdir(exist_ok=True)
    busy = Busy(machine=this_machine(), at=time.monotonic() - ago, requests=requests, answers=0, p95=None)
    (folder / "1-a.json").write_text(busy.model_dump_json())


def test_no_step_while_a_loaded_door_is_over_its_budget(job, undisturbed, tmp_path):
    """Eight callers wait at a real door: before the first step, and again in the middle; the adapter is the same."""
    folder, signs = tmp_path / "job", tmp_path / "doors"

    async def scene():
        async with opened(tmp_path) as door:
            door.specialist.pause = 60.0
            sign, watch = DoorSign(signs), Seen(folder)
            door.door.counting = replace(door.door.counting, sign=sign)
            telling = asyncio.create_task(tell_busy(door.door, sign, door.door.counting.journal))

            def load():
                return [asyncio.create_task(door.ask()) for _ in range(8)]

            async def relieve(callers):
                for caller in callers:
                    caller.cancel()
                await asyncio.gather(*callers, return_exceptions=True)

            callers = load()
            await until(lambda: [door_sign.requests for door_sign in busy_doors(signs)] == [8])
            began = time.monotonic()
            trained = asyncio.create_task(
                asyncio.to_thread(train, folder, job, Thread(signs), lambda beat: None, beside=AT_MOST_TWO)
            )
            await until(lambda: watch.reasons)
            await asyncio.sleep(1)
            assert (watch.steps, watch.reasons[0]) == (0, "it has 8 requests, and 2 are the budget")
            await relieve(callers)
            await until(lambda: watch.steps > 3)
            before, callers = len(watch.reasons), load()
            await until(lambda: len(watch.reasons) > before)
            steps = watch.steps
            await asyncio.sleep(1)
            assert 3 < steps == watch.steps < STEPS
            await relieve(callers)
            outcome = await trained
            telling.cancel()
            sign.close()
            assert busy_doors(signs) == []
            assert same_weights(outcome.adapter, undisturbed)
            assert outcome.seconds < time.monotonic() - began - 2

    run(scene)


def test_a_door_that_died_holds_no_training(job, tmp_path, monkeypatch):
    """Its last sign says that it was over the budget; once that is old, it does not count."""
    worker.load("sft")
    monkeypatch.setattr(of_doors, "ALIVE", 300.0)
    signs, few = tmp_path / "doors", job.settings(steps=2)
    door_says(signs, requests=9)

    def waiting(wait):
        door_says(signs, requests=9, ago=301.0)

    outcome = train(tmp_path / "job", few, Thread(signs), lambda beat: None, beside=AT_MOST_TWO, waiting=waiting)
    assert (outcome.steps, outcome.restarts, len(Seen(tmp_path / "job").reasons)) == (2, 0, 1)


def test_a_training_that_waits_is_not_stalled_and_can_be_stopped(job, tmp_path, monkeypatch):
    """The supervisor's patience ends long before the wait does; Ctrl-C ends both."""
    worker.load("sft")
    monkeypatch.setattr(of_doors, "ALIVE", 300.0)
    monkeypatch.setattr(supervisor, "START_GRACE", 5.0)
    monkeypatch.setattr("modelsmith.fleet.yielding.TOLD_EVERY", 0.05)
    door_says(tmp_path / "doors", requests=9)
    few = job.settings(steps=2)

    def waiting(wait):
        if wait.waited > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "job", few, Thread(tmp_path / "doors"), lambda beat: None, beside=AT_MOST_TWO, waiting=waiting)
    assert Seen(tmp_path / "job").steps == 0
    (tmp_path / "doors" / "1-a.json").unlink()
    assert train(tmp_path / "job", few, Thread(tmp_path / "doors"), lambda beat: None, beside=AT_MOST_TWO).steps == 2


@pytest.mark.parametrize(
    ("budget", "busy", "seconds", "why"),
    [
        ({"requests": 0}, {"requests": 1}, None, "it has 1 requests, and 0 are the budget"),
        ({"requests": 1}, {"requests": 1}, 0, None),
        ({"p95_milliseconds": 500}, {"p95": 800.4}, None, "the p95 of its answers is 800 ms, and 500 ms are"),
        ({"p95_milliseconds": 500}, {"p95": None}, 0, None),
        ({"share": 0.25}, {"answers": 1}, 12, "it answers requests, and steps have 25% of the time"),
        ({"share": 0.25}, {"answers": 0}, 0, None),
    ],
)
def test_each_budget_is_kept(budget, busy, seconds, why, tmp_path):
    """A step that took four seconds; then what the door says. None: it waits for as long as that is so."""
    clock, messages = [0.0], []
    facts = {"machine": "m", "at": 0.0, "requests": 0, "answers": 0, "p95": None} | busy

    def sleep(seconds):
        clock[0] += seconds
        return clock[0] > 100

    yielding = Yielding(
        BesideServing(**budget), tmp_path, sleep, look=lambda folder: [Busy(**facts)], clock=lambda: clock[0]
    )
    clock[0] = 4.0
    waited = yielding.wait(lambda words, since: messages.append(words))
    assert waited == (pytest.approx(96.1, abs=0.2) if seconds is None else pytest.approx(seconds, abs=0.11))
    assert messages[0].startswith(why) if why else not messages, messages


def test_doors_elsewhere_and_damaged_files_are_no_doors(tmp_path):
    """Homes may lie on a disk that machines share."""
    door_says(tmp_path, requests=1)
    other = Busy(machine="elsewhere", at=time.monotonic(), requests=5, answers=0, p95=None)
    (tmp_path / "2-b.json").write_text(other.model_dump_json())
    (tmp_path / "3-c.json").write_text("{")
    (tmp_path / "4-d.json").mkdir()
    assert [door.requests for door in busy_doors(tmp_path)] == [1]


def test_what_no_door_would_write_holds_up_no_training(tmp_path):
    """A pipe that nobody writes into, devices, figures that fill a screen or are none, times that have not come."""
    door_says(tmp_path, requests=1)
    true = json.loads((tmp_path / "1-a.json").read_text())
    os.mkfifo(tmp_path / "0-pipe.json")
    (tmp_path / "2-zeroes.json").symlink_to("/dev/zero")
    lies = [{"requests": 10**3000}, {"p95": 1e308}, {"p95": float("inf")}, {"p95": float("nan")}, {"requests": -1}]
    lies += [{"at": time.monotonic() + 100}, {"at": float("nan")}, {"answers": 10**12}, {"more": "x" * 5000}]
    for number, lie in enumerate(lies):
        (tmp_path / f"3-{number}.json").write_text(json.dumps(true | lie))
    recorded = []
    threading.Thread(target=lambda: recorded.append(busy_doors(tmp_path)), daemon=True).start()
    end = time.monotonic() + 60
    while not recorded and time.monotonic() < end:
        time.sleep(0.01)
    assert [[door.requests for door in doors] for doors in recorded] == [[1]]


def test_a_slow_door_does_not_look_quick_by_failures_and_hang_ups(tmp_path):
    """Callers who give up, and a backend that refuses at once, are what a door that is starved meets."""
    sign = DoorSign(tmp_path)

    def p95_with(milliseconds, count):
        for _ in range(count):
            sign.answered(milliseconds, complete=False)
        sign.write(0, sign.recent())
        (door,) = busy_doors(tmp_path)
        return door.p95

    assert p95_with(20_000.0, 3) == 20_000.0, "nobody waited for the end"
    for _ in range(20):
        sign.answered(900.0)
    assert p95_with(1.0, 10_000) == 900.0


def test_containers_of_one_machine_see_each_others_doors(tmp_path, monkeypatch):
    """Each has a host name of its own; the clock by which signs are dated is that of the boot."""
    sign = DoorSign(tmp_path)
    sign.write(3, ())
    this_machine.cache_clear()
    monkeypatch.setattr("platform.node", lambda: "another-container")
    assert [door.requests for door in busy_doors(tmp_path)] == ([3] if sys.platform == "linux" else [])
    this_machine.cache_clear()
