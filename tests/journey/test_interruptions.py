"""Kills, Ctrl-C, rivals, full disks and missing permissions: the same command goes on, and nothing counts twice."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from shared import built_once
from worlds import COMMAND, Ran, World

from modelsmith.ledger.ledger import Ledger

APPEND = "modelsmith.evaluation.results:RunFolder.append"
NOTE = "modelsmith.ledger.ledger:Ledger.append"
PUSH = "modelsmith.forges.local:LocalForge._push"
WAIT = "modelsmith.fleet.executor:_LocalJob.beats"
DRIVER = Path(__file__).with_name("stop_at.py")
STATE = "modelsmith.loop.state:StateFile.put"

STOPS = (
    ("eval", "modelsmith.substrates.local:TransformersSubstrate._batch 1 before SIGINT", "while the model answers"),
    ("eval", f"{APPEND} 2 after SIGKILL", "answers are on disk"),
    (
        "eval",
        "modelsmith.evaluation.results:RunFolder.write_result 1 after SIGKILL",
        "the ledger does not know the run",
    ),
    ("eval", "pathlib:Path.replace 1 before SIGKILL", "state.json is written but not in its place"),
    ("diagnose", "modelsmith.loop.preparing:write_prompts 1 after SIGKILL", "rows are made"),
    ("train", f"{WAIT} 3 before SIGKILL", "the worker has just started and loses its supervisor"),
    ("train", f"{WAIT} 5 before SIGINT", "while the worker trains"),
    ("train", "modelsmith.training.supervisor:_failure 1 after SIGKILL", "the worker is done"),
    ("seal", "modelsmith.artifacts.store:_settle 1 before SIGKILL", "the artifact has not got its place in the store"),
    ("seal", f"{NOTE} 1 before SIGKILL", "the artifact is in the store, and the ledger does not know it"),
    ("seal", f"{PUSH} 1 after SIGKILL", "the candidate's pull request is open"),
    ("seal", f"{PUSH} 1 after SIGKILL", "main of the forge has moved, the clone and the log do not know"),
    ("assess", f"{APPEND} 2 before SIGKILL", "answers of the candidate are lost"),
    ("assess", f"{STATE} 1 before SIGKILL", "the verdict is reached"),
    ("promote", "modelsmith.loop.promotions:write_atomically 1 after SIGKILL", "the evidence is signed"),
    ("promote", f"{PUSH} 2 before SIGKILL", "eval-accepted is open"),
    ("promote", f"{PUSH} 2 after SIGKILL", "eval-accepted is merged"),
    (
        "promote",
        "modelsmith.loop.promotions:sign_directory 1 after SIGKILL",
        "the artifact is signed outside the store",
    ),
    ("promote", "modelsmith.forges.local:LocalForge.merge 1 after SIGKILL", "artifact-exported is merged"),
    ("promote", f"{PUSH} 1 before SIGKILL", "the person's pull request is about to open"),
    ("promote", f"{PUSH} 1 after SIGKILL", "the person's pull request is open"),
    ("promote", f"{NOTE} 2 before SIGKILL", "a person is waited for, and the ledger does not know it"),
    ("promote", f"{STATE} 1 before SIGKILL", "the wait is not written down"),
)


@dataclass(frozen=True)
class Stopped:
    """One command that was stopped."""

    point: str
    code: int
    phase: str
    err: str


def phase(world):
    return world.state()["phase"] if (world.private / "state.json").exists() else "eval"


@pytest.fixture(scope="module")
def interrupted(fresh_template, tmp_path_factory):
    """One loop that is stopped at every point, one after the other, and then left to end."""

    def build(folder):
        world = fresh_template.copied_to(folder)
        stopped = []
        for _, point, _ in STOPS:
            result = world.stop_at(point, "iterate", "rtb-pricing", "--json")
            stopped.append(asdict(Stopped(point, result.code, phase(world), result.out + result.err)))
        ended = world.modelsmith("iterate", "rtb-pricing", "--json")
        (folder / "told.json").write_text(json.dumps([stopped, asdict(ended)]))

    shared = World(built_once(tmp_path_factory, "journey-interrupted", build))
    stopped, ended = json.loads((shared.folder / "told.json").read_text())
    world = shared.copied_to(tmp_path_factory.mktemp("interrupted") / "world")
    return world, [Stopped(**stop) for stop in stopped], Ran(**ended)


def test_it_was_stopped_in_every_phase_and_where_it_was_meant_to(interrupted):
    _, stopped, _ = interrupted
    codes = {"SIGKILL": -signal.SIGKILL, "SIGINT": 130}
    expected = [(point, codes[point.split()[-1]], phase) for phase, point, _ in STOPS]
    assert [(stop.point, stop.code, stop.phase) for stop in stopped] == expected, [stop.err[-300:] for stop in stopped]


def test_ctrl_c_says_that_the_same_command_goes_on(interrupted):
    _, stopped, _ = interrupted
    assert ["Run the same command again" in stop.err for stop in stopped if stop.code == 130] == [True, True]


def test_the_end_is_that_of_a_loop_that_nobody_interrupted(interrupted, first_iterate):
    world, _, result = interrupted
    calm, calm_ran = first_iterate
    assert result.code == 4, result.out
    same = ("iteration", "phase", "outcome", "reason", "specialist", "artifact", "pull", "waiting_for")
    assert {name: result.json[name] for name in same} == {name: calm_ran.json[name] for name in same}
    assert [result.json[run]["run_id"] for run in ("reference", "candidate")] == [
        calm_ran.json[run]["run_id"] for run in ("reference", "candidate")
    ]
    assert world.state() == calm.state()
    assert world.must("status", "--porcelain") == ""
    assert world.git.rev("HEAD") == world.main()


def test_there_is_one_pull_request_for_each_event(interrupted, first_iterate):
    assert interrupted[0].pulls() == first_iterate[0].pulls()


def test_the_ledger_counts_nothing_twice_and_forgets_nothing(interrupted, first_iterate):
    def count_events(world):
        timed = {"record": True, "evidence_bundle": {"digest"}}
        events = [event.event for event in Ledger(world.private / "ledger.db").events()]
        return Counter(event.model_dump_json(exclude=timed) for event in events)

    assert count_events(interrupted[0]) == count_events(first_iterate[0])
    runs = Ledger(interrupted[0].private / "ledger.db").runs()
    assert [(run.tag, run.attempts) for run in runs] == [
        ("rtb-pricing-iter-001-base", 1), ("rtb-pricing-iter-001-candidate", 1),
    ]  # fmt: skip


def test_no_answer_is_lost_or_kept_twice(interrupted, first_iterate):
    def answered(world):
        return {
            file.parent.name: sorted(
                (line["section"], line["id"], line["wording"])
                for line in map(json.loads, file.read_text().splitlines())
            )
            for file in world.private.glob("rtb-pricing/runs/*/observations.jsonl")
        }

    assert answered(interrupted[0]) == answered(first_iterate[0])


def test_training_went_on_from_its_checkpoints(interrupted):
    beats = next(interrupted[0].private.glob("rtb-pricing/iterations/001/job/heartbeat.jsonl")).read_text()
    assert [json.loads(line)["step"] for line in beats.splitlines()] == [1, 2, 3, 4]


def test_the_interrupted_history_verifies(interrupted):
    result = interrupted[0].modelsmith("verify", "--json")
    assert (result.code, result.json["promotions"]) == (0, 3)


def test_a_person_s_approval_and_merge_survive_a_kill(waiting):
    approve = ("approve", "4", "--key", waiting.key("maya"), "--json")
    assert waiting.stop_at(f"{PUSH} 1 before SIGKILL", *approve).code == -signal.SIGKILL
    assert waiting.modelsmith("pr", "show", "4", "--json").json["reviews"] == []
    assert waiting.modelsmith(*approve).json["pull"]["gate"] == "open"

    merge = ("pr", "merge", "4", "--json")
    assert waiting.stop_at(f"{PUSH} 1 after SIGKILL", *merge).code == -signal.SIGKILL
    merged = waiting.main()
    assert waiting.git.rev("HEAD") != merged, "killed before the clone followed"
    assert waiting.modelsmith(*merge).code == 0
    assert waiting.main() == waiting.git.rev("HEAD") == merged
    assert waiting.modelsmith("verify", "--json").json["approvals"] == 1
    events = [event.event for event in Ledger(waiting.private / "ledger.db").events()]
    assert [event.to_state for event in events if event.name == "promotion.advanced"] == [
        "candidate", "eval-accepted", "artifact-exported", "customer-deployed",
    ]  # fmt: skip


def test_two_processes_never_iterate_one_cluster_at_once(fresh):
    point = "modelsmith.loop.iterate:open_context 1 before PAUSE"
    first = fresh.start(sys.executable, DRIVER, point, "iterate", "rtb-pricing")
    try:
        assert first.stderr.readline() == "paused\n"
        second = fresh.modelsmith("iterate", "rtb-pricing", "--json")
        assert (second.code, second.json["code"]) == (6, "busy")
        assert "Wait" in second.json["mend"]
        assert fresh.modelsmith("status", "--json").code == 0, "looking is always possible"
    finally:
        first.kill()
        first.communicate()
    after = fresh.stop_at("modelsmith.loop.iterate:open_context 1 before SIGKILL", "iterate", "rtb-pricing")
    assert after.code == -signal.SIGKILL, "a dead process holds no lock"


def fill(ballast):
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_named_and_freeing_it_is_enough(waiting):
    moved = waiting.folder / "kept"
    waiting.private.rename(moved)
    waiting.private.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", waiting.private], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode().strip()}")
    try:
        shutil.copytree(moved, waiting.private, dirs_exist_ok=True)
        before = waiting.state()
        ballast = waiting.private / "ballast"
        fill(ballast)
        full = waiting.modelsmith("iterate", "rtb-pricing", "--json")
        assert (full.code, full.json["code"]) == (6, "disk-full"), full.out
        assert "Free" in full.json["mend"]
        command = ("eval", "--cluster", "rtb-pricing", "--tag", "again", "--json")
        full_eval = waiting.modelsmith(*command)
        assert full_eval.code == 6, full_eval.out
        assert waiting.state() == before

        ballast.unlink()
        assert waiting.modelsmith("iterate", "rtb-pricing", "--json").code == 4
        assert waiting.state() == before
        result = waiting.modelsmith(*command)
        assert (result.code, result.json["run"]["executed"]) == (0, 0), result.out
    finally:
        subprocess.run(["umount", "-l", waiting.private], check=True)


def without_root_s_privilege():
    """Make file permissions bind this process's children even as root (PR_CAPBSET_DROP of the DAC capabilities)."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)


def test_without_write_permission_all_is_read_and_nothing_is_half_done(waiting):
    limited = {"preexec_fn": without_root_s_privilege} if os.geteuid() == 0 else {}
    before = waiting.main()
    request = waiting.folder / "request.jsonl"
    request.write_text('{"model": "rtb-pricing", "messages": [{"role": "user", "content": "Why?"}]}\n')

    def lock_up(folder, locked):
        for path in (folder, *folder.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode & ~0o222 if locked else mode | 0o200)

    for folder in (waiting.clone, waiting.forge, waiting.folder / "home"):
        lock_up(folder, True)
    looks = [
        ("status",), ("verify",), ("route", str(request)), ("results", "--tag", "rtb-pricing-iter-001-base"),
        ("events",), ("fleet",), ("composite-history", "rtb-pricing"), ("pr", "show", "4"), ("jobs", "list"),
    ]  # fmt: skip
    looks_ran = [(words, waiting.run(COMMAND, *words, "--json", **limited)) for words in looks]
    for folder in (waiting.clone, waiting.forge, waiting.folder / "home"):
        lock_up(folder, False)
    assert [(words, result.out) for words, result in looks_ran if result.code] == []

    lock_up(waiting.private, True)
    result = waiting.run(COMMAND, "iterate", "rtb-pricing", "--json", **limited)
    lock_up(waiting.private, False)
    assert (result.code, result.json["code"]) == (6, "not-writable"), result.out
    assert "writable" in result.json["mend"]

    lock_up(waiting.forge, True)
    result = waiting.run(COMMAND, "approve", "4", "--key", waiting.key("maya"), "--json", **limited)
    lock_up(waiting.forge, False)
    assert result.code == 6, result.out
    assert waiting.main() == before
    assert waiting.modelsmith("iterate", "rtb-pricing", "--json").code == 4
