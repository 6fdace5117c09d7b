"""Main judged by several processes: they say what one says, and none outlives whoever asked it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from in_parts import after_receipts, outcome
from promotion.replays import PETRA

from modelsmith.fleet import start as starter
from modelsmith.promotion import part_worker, replaying
from modelsmith.promotion.part_worker import question
from modelsmith.promotion.parts import cut
from modelsmith.promotion.replaying import replay_apart, replay_line
from modelsmith.promotion.verify import replay
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.progress import silent

from .conftest import candidate

PATIENCE = 60


@pytest.fixture(scope="module")
def honest(repository):
    merged = repository.merge(candidate(repository, 1), number=1)
    merged = merged.merge({"docs/note.md": b"x"}, [PETRA], number=2)
    return merged.merge(candidate(merged, 2), number=3)


@pytest.fixture
def judged(repository):
    """Judges main from the repository's first commit to a tip, in parts that are cut where receipts were added."""

    def judge(tip, notify=silent):
        with ObjectReader(repository.git.path) as git:
            steps = git.first_parent_log(tip)[1:]
            return replay_apart(git, cut(repository.tip, steps, after_receipts(git, steps)), notify, datetime.now(UTC))

    return judge


@pytest.fixture
def processes(monkeypatch):
    """All processes that were started."""
    started = []
    start = replaying.start_apart

    def starting(*command, **options):
        process = start(*command, **options)
        started.append(process)
        return process

    monkeypatch.setattr(replaying, "start_apart", starting)
    return started


def one_replay(repository, tip):
    with ObjectReader(repository.git.path) as git:
        return outcome(lambda: replay(git, repository.tip, git.first_parent_log(tip)[1:], silent, datetime.now(UTC)))


def test_processes_say_what_one_replay_says(repository, honest, judged, processes):
    messages = []
    assert outcome(lambda: judged(honest.tip, messages.append)) == one_replay(repository, honest.tip)
    assert [process.returncode is not None for process in processes] == [True, True]
    assert (messages[-1].done, messages[-1].total) == (6, 6)
    assert [step.done for step in messages] == sorted(step.done for step in messages)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_a_process_refuses_is_refused_as_by_one_replay(repository, judged, processes, place):
    changed = repository
    for number in range(3):
        files = {f"docs/{number}.md": b"x"}
        changed = changed.merge(files, [] if number == place else [PETRA], number=number + 1, smuggled=number == place)
    refused, error = outcome(lambda: judged(changed.tip))
    assert (refused, error) == one_replay(repository, changed.tip)
    assert "@platform is missing" in error["message"]
    assert [process.returncode is not None for process in processes] == [True, True]


def test_a_process_that_is_killed_verifies_nothing(honest, judged, monkeypatch, processes):
    recorded = replaying.start_apart

    def killed(*command, **options):
        process = recorded(*command, **options)
        process.send_signal(signal.SIGSTOP)  # so that it has no answer yet
        process.kill()
        return process

    monkeypatch.setattr(replaying, "start_apart", killed)
    with pytest.raises(InfrastructureFailure) as failed:
        judged(honest.tip)
    assert failed.value.code == "process-ended"
    assert f"status {-signal.SIGKILL}" in failed.value.message


def test_an_answer_that_is_none_verifies_nothing(honest, judged, monkeypatch, processes):
    monkeypatch.setattr(replaying, "answer", lambda line: int("x"))
    with pytest.raises(InfrastructureFailure):
        judged(honest.tip)
    assert all(process.returncode is not None for process in processes)


def test_where_no_process_can_be_started_one_is_enough(repository, honest, judged, monkeypatch):
    def full(*command, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(replaying, "start_apart", full)
    assert outcome(lambda: judged(honest.tip)) == one_replay(repository, honest.tip)


def test_who_interrupts_leaves_no_process_behind(honest, judged, processes):
    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(honest.tip, interrupt)
    assert [process.returncode is not None for process in processes] == [True, True]


def test_a_process_ends_with_whoever_asked_it(repository, honest, tmp_path):
    """Also where that one is killed: all that reaches the process is that its standard input closes."""
    (tmp_path / "git").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec 3>&1\nexec cat > /dev/null\n")
    (tmp_path / "git").chmod(0o755)
    with ObjectReader(repository.git.path) as git:
        (part, _) = cut(repository.tip, git.first_parent_log(honest.tip)[1:], [2])
    process = subprocess.Popen(
        [sys.executable, "-P", starter.__file__, part_worker.__name__, str(repository.git.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    process.stdin.write(question(part, datetime.now(UTC)))
    process.stdin.flush()
    until = time.monotonic() + PATIENCE
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    process.stdin.close()
    assert process.wait(PATIENCE) == 1, "it ended by itself, though git never answers"


def test_a_folder_of_files_named_like_modules_runs_nothing(repository, honest, judged, monkeypatch, tmp_path):
    """The processes import from nowhere but where the toolkit does."""
    for name in ("json", "modelsmith", "threading", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    assert outcome(lambda: judged(honest.tip)) == one_replay(repository, honest.tip)
    assert not (tmp_path / "ran").exists()


def test_an_isolated_python_asks_isolated_ones(repository, tmp_path):
    """Who verifies by `python -I` wants nothing of the environment: a module on its path would answer for main."""
    (tmp_path / "sitecustomize.py").write_text("import os\nprint([9, 9, 9], flush=True)\nos._exit(0)\n")
    script = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from modelsmith.promotion.replaying import _judging
from modelsmith.promotion.verify import Part

with _judging(Path(sys.argv[1]), Part("0" * 40, (), [], "0" * 40), datetime.now(UTC)) as process:
    while not process.has_ended(1):
        pass
    print(process.refused, process.counts())
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-I", "-c", script, str(repository.git.path)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE * 2)
    assert process.stdout == "True None\n", process.stderr


def test_a_long_main_is_judged_by_several_and_a_short_one_by_one(repository, honest, monkeypatch, processes):
    monkeypatch.setattr(replaying, "_processors", lambda: 3)

    def line(least):
        monkeypatch.setattr(replaying, "LEAST_STEPS", least)
        with ObjectReader(repository.git.path) as git:
            steps = git.first_parent_log(honest.tip)[1:]
            return outcome(lambda: replay_line(git, repository.tip, steps, silent, datetime.now(UTC)))

    assert line(2) == line(3) == line(4) == one_replay(repository, honest.tip)
    assert len(processes) == 2 + 1 + 0
    monkeypatch.setattr(replaying, "_processors", lambda: 1)
    line(2)
    assert len(processes) == 3
