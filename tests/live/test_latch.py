"""A deployment that is worse is taken back at once, and nothing but a new one makes traffic go forward again."""

import json
import math
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from live.reported import tell, worse

from modelsmith.live.latch import Latches
from modelsmith.live.port import Answered
from modelsmith.live.store import STORE_FILE
from modelsmith.schema.canonical import digest
from tests.live.conftest import RECORD, report, watching

TABLES = ("units", "measured", "reports", "tallies", "spans")


def good(status=200, **facts):
    return Answered(status, 5.0, 20.0, 100, 10, **facts)


def test_the_first_decision_after_the_trip_is_the_incumbents(desk):
    _, reports = desk.traffic(2_000, 0.1, 0.4)
    for entry in reports:
        before = desk.recorder.latched(RECORD)
        desk.recorder.feedback(json.dumps(entry).encode())
        if desk.recorder.latched(RECORD):
            break
    assert not before
    assert desk.recorder.latched(RECORD)
    assert desk.told == [True], "it is announced once, and lies on disk before"


def test_what_is_not_worse_goes_on(desk):
    tell(desk, desk.traffic(2_000, 0.4, 0.4)[1])
    assert not desk.recorder.latched(RECORD)
    assert desk.told == []


def test_a_specialist_whose_answers_fail_is_taken_back_without_any_report(desk):
    for decision in [desk.decided() for _ in range(1_000)]:
        failed = decision.arm == "specialist"
        desk.recorder.answered(decision, good(503, failed_over=True) if failed else good())
    desk.recorder.close()
    assert desk.recorder.latched(RECORD)
    assert "errors is 100.0 points worse" in desk.recorder.trips()[0][1].reasons[0]


def test_clients_that_hang_up_are_no_errors(desk):
    for decision in [desk.decided() for _ in range(1_000)]:
        desk.recorder.answered(decision, good(200, hung_up=decision.arm == "specialist"))
    desk.recorder.flush()
    assert not desk.recorder.latched(RECORD)


def test_a_restart_finds_the_latch(desk):
    worse(desk)
    assert desk.again().latched(RECORD)


def test_a_trip_that_a_crash_cut_short_is_made_up_for(desk):
    """Counts were stored, and the door died before the latch was written."""
    worse(desk)
    desk.recorder.latches.path(RECORD).unlink()
    assert desk.again().latched(RECORD)
    assert desk.is_on_disk()


def test_a_damaged_latch_holds(desk):
    worse(desk)
    desk.recorder.latches.path(RECORD).write_bytes(b"\0{")
    recorder = desk.again()
    assert recorder.latched(RECORD)
    assert recorder.trips()[0][1] is None


def test_a_lost_store_does_not_lift_the_latch(desk):
    worse(desk)
    desk.recorder.close()
    for path in desk.folder.glob(f"{STORE_FILE}*"):
        path.unlink()
    desk.recorder = desk.open()
    assert desk.recorder.latched(RECORD)


@pytest.mark.parametrize("step", [{"days": -400}, {"days": 400}])
def test_a_step_of_the_clock_does_not_lift_the_latch(desk, step):
    worse(desk)
    desk.hands.at = desk.hands.at.replace(year=desk.hands.at.year + (1 if step["days"] > 0 else -1))
    assert desk.recorder.latched(RECORD)
    assert desk.again().latched(RECORD)


def test_a_clock_that_is_behind_at_first_spoils_no_evidence(desk):
    """No decision of a deployment was made before its approval, so none is dated so; a loss is seen all the same."""
    right, desk.hands.at = desk.hands.at, desk.hands.at - timedelta(hours=3)
    _, reports = desk.traffic(20, 0.5, 0.5)
    desk.hands.at = right
    desk.recorder.feedback(json.dumps({"reports": reports}).encode())
    counts = desk.recorder.counts(watching())
    assert counts.began == watching().opens <= counts.ended
    assert counts.stages[0].specialist + counts.stages[0].incumbent == 20
    desk.hands.at = right - timedelta(hours=3)
    worse(desk)
    assert desk.recorder.latched(RECORD)


def test_a_step_forward_does_not_end_the_window(desk):
    """Nobody gets rid of the contract by setting the clock: the window is open while either clock says so."""
    desk.hands.at = desk.hands.at.replace(year=desk.hands.at.year + 1)
    worse(desk)
    assert desk.recorder.latched(RECORD)


def test_after_the_window_it_is_said_and_left_to_a_person(desk, caplog):
    desk.hands.pass_(minutes=90)
    worse(desk)
    assert not desk.recorder.latched(RECORD)
    assert "worse than allowed, after its window" in caplog.text
    assert desk.told == []


def test_the_next_deployment_is_not_under_the_old_latch(desk):
    worse(desk)
    other = "sha256:" + "1" * 64
    desk.recorder.follow([watching(other)])
    assert not desk.recorder.latched(other)
    assert not desk.recorder.latched(""), "the base model has no record, and is never taken back"
    assert desk.recorder.latched(RECORD), "requests that were routed by the main of before are the incumbent's too"


def test_two_doors_of_one_clone_obey_each_others_latch(desk):
    other = desk.open()
    worse(desk)
    assert other.latched(RECORD)
    other.close()


def test_two_doors_that_set_room_aside_at_once_both_have_it(tmp_path, monkeypatch):
    first, other, random = Latches(tmp_path), Latches(tmp_path), os.urandom

    def between(number):
        monkeypatch.setattr(os, "urandom", random)
        other.reserve(RECORD)
        return random(number)

    monkeypatch.setattr(os, "urandom", between)
    first.reserve(RECORD)
    assert [path.suffix for path in tmp_path.iterdir()] == [".room"]


def test_counting_goes_on_where_no_file_can_be_opened(desk):
    """Nor does a large batch of many keys need a file beside the store's own, in which SQLite could undo half of it."""
    desk.traffic(6_000, 0.4, 0.4)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        decisions = [desk.decided() for _ in range(1_000)]
        desk.recorder.flush()
        trouble = desk.recorder.trouble
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (trouble, len(decisions)) == (None, 1_000)
    counted = desk.recorder.counts(watching())
    assert sum(stage.specialist + stage.incumbent for stage in counted.stages) == 7_000


def test_with_a_full_disk_it_serves_latches_and_says_so(desk, monkeypatch):
    """No file can grow: the latch is written into room that was set aside when the deployment came under watch."""
    _, reports = desk.traffic(2_000, 0.1, 0.4)
    tell(desk, reports[:-600])
    full = sqlite3.OperationalError("database or disk is full")
    store = desk.recorder._store
    monkeypatch.setattr(store, "note", lambda _: (_ for _ in ()).throw(full))
    monkeypatch.setattr(store, "report", lambda _: (_ for _ in ()).throw(full))
    status, answer = desk.recorder.feedback(json.dumps(report(desk.decided())).encode())
    assert (status, answer["result"]) == (503, "not-stored")
    desk.recorder.flush()
    assert "disk is full" in desk.recorder.trouble
    monkeypatch.undo()
    desk.recorder.flush()
    assert desk.recorder.trouble is None
    assert len(desk.recorder._waiting) == 0


def test_a_latch_that_cannot_be_written_holds_and_is_written_later(desk, monkeypatch):
    tried = []

    def refuse(self, latch):
        tried.append(latch)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Latches, "set", refuse)
    worse(desk)
    assert tried
    assert desk.recorder.latched(RECORD)
    assert desk.told == [], "nothing is announced that a crash could take back"
    assert "No space left" in desk.recorder.trouble
    monkeypatch.undo()
    desk.recorder._latch(desk.recorder._held[RECORD])
    assert desk.told == [True]
    assert desk.recorder.trouble is None


def test_room_for_the_latch_is_there_before_it_is_needed(desk):
    room = desk.recorder.latches.path(RECORD).with_suffix(".room")
    assert room.stat().st_blocks * 512 >= 65_536


def test_a_store_that_is_no_database_stops_no_request(tmp_path, desk):
    desk.recorder.close()
    (desk.folder / STORE_FILE).write_bytes(b"not a database" * 1000)
    for side in ("-wal", "-shm"):
        (desk.folder / f"{STORE_FILE}{side}").unlink(missing_ok=True)
    desk.recorder = desk.open()
    desk.recorder.answered(desk.decided(), good())
    desk.recorder.flush()
    assert "not a database" in desk.recorder.trouble
    assert desk.recorder.feedback(json.dumps(report(desk.decided())).encode())[0] == 503


def test_a_store_that_can_only_be_read_is_said_though_it_is_read(desk):
    """Every report is judged by what can be read; that they are refused must not be forgotten for it."""
    desk.traffic(20, 0.5, 0.5)
    desk.recorder._store._database.execute("PRAGMA query_only=ON")
    assert desk.recorder.feedback(json.dumps(report(desk.decided())).encode())[0] == 503
    assert "readonly" in desk.recorder.trouble
    desk.recorder._store._database.execute("PRAGMA query_only=OFF")
    desk.recorder.flush()
    assert desk.recorder.trouble is None


def test_damage_is_said_though_other_parts_of_the_store_are_sound(desk):
    """Of a file of which one table is damaged, decisions may still be counted; reports are refused."""
    _, reports = desk.traffic(2_000, 0.1, 0.4)
    tell(desk, reports[:500])
    (root,) = desk.recorder._store._database.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'reports'"
    ).fetchone()
    (size,) = desk.recorder._store._database.execute("PRAGMA page_size").fetchone()
    desk.recorder.close()
    with (desk.folder / STORE_FILE).open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    desk.recorder = desk.open()
    assert desk.recorder.feedback(json.dumps(reports[600]).encode())[0] == 503
    desk.recorder.answered(desk.decided(), good())
    desk.recorder.flush()
    assert not desk.recorder._waiting
    assert "malformed" in desk.recorder.trouble


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}]
from tests.live.conftest import Desk
from tests.live.reported import worse
desk = Desk(Path({folder!r}))
print("up", flush=True)
worse(desk)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3])
def test_killed_at_any_instant_it_comes_back_to_the_same(tmp_path, wait):
    """Whatever instant the kill hits: the store opens, and a latch that was announced is there."""
    folder = tmp_path / "live"
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    script = KILLED.format(root=root, folder=str(folder))
    door = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert door.stdout.readline() == b"up\n"
    threading.Event().wait(wait)
    door.send_signal(signal.SIGKILL)
    text = door.communicate()[0]
    latched = Latches(folder / "latches").is_set(RECORD)
    assert latched or b"done" not in text
    from tests.live.conftest import Desk

    desk = Desk(folder)
    try:
        counts = desk.recorder.counts(watching())
        assert desk.recorder.latched(RECORD) or not latched
        if counts:
            wins = counts.stages[0].metrics[0]
            assert wins.specialist_known <= counts.stages[0].specialist
        assert desk.recorder.trouble is None
    finally:
        desk.recorder.close()


def test_counts_that_nothing_was_added_to_are_forgotten_in_time(desk):
    desk.traffic(100, 0.1, 0.4)
    desk.recorder.forget(90)
    assert desk.recorder.counts(watching()) is not None
    desk.hands.pass_(days=91)
    desk.recorder.forget(90)
    assert desk.recorder.counts(watching()) is not None, "an open window's figures do not spoil"
    desk.recorder.follow([])
    desk.hands.at -= timedelta(days=91)
    desk.recorder.forget(90)
    assert desk.recorder.counts(watching()) is not None
    desk.hands.at += timedelta(days=91)
    desk.recorder.forget(90)
    assert desk.recorder.counts(watching()) is None


def test_a_window_stands_in_the_figures_while_it_is_open(desk):
    """Its evidence beside the line at which it trips; nobody looks at a window that is over for a live one."""

    def window_figures():
        text = desk.recorder.exposition()[1].decode()
        return dict(re.findall(r"^modelsmith_window_(\w+)\{[^}]*\} (\S+)$", text, re.M))

    assert float(window_figures()["trip"]) == pytest.approx(math.log10(2 / 0.05))
    assert set(window_figures()) == {"trip", "evidence"}
    desk.recorder.follow([])
    assert window_figures() == {}


def test_forgetting_goes_on_where_it_was_stopped_and_takes_nothing_else(desk, monkeypatch):
    monkeypatch.setattr("modelsmith.live.store._STEP", 7)
    tell(desk, desk.traffic(60, 0.1, 0.4)[1])
    desk.recorder.flush()
    other = digest("another")
    desk.recorder.follow([watching(other)])
    desk.hands.pass_(days=91)
    for n in range(20):
        desk.decided("specialist", key=f"other {n}", record=other)
    desk.recorder.flush()
    looks = iter([False] * 5 + [True] * 99)
    desk.recorder.forget(90, lambda: next(looks))
    assert desk.recorder.counts(watching()) is not None
    desk.recorder.forget(90)
    assert desk.recorder.counts(watching()) is None
    tables = sqlite3.connect(desk.folder / "counts.sqlite3")
    rows_left = {name: tables.execute(f"SELECT DISTINCT record FROM {name}").fetchall() for name in TABLES}
    assert {record for rows in rows_left.values() for (record,) in rows} == {other}
    assert desk.recorder.counts(watching(other)).stages[0].specialist == 20
