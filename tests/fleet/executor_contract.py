"""What every executor keeps, whatever lies between it and the worker. `stub_worker` is what runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest

from modelsmith.fleet.executor import Executor, Submitted
from modelsmith.fleet.worker import STOPPED

EMPTY = "sha256:" + hashlib.sha256(b"").hexdigest()

LONG = 30.0
"""Seconds for which a call may wait that has no need to."""


def folder_of(folder: Path, **job: Any) -> Path:
    """A job's folder."""
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(json.dumps(job))
    return folder


def steps(lines: list[bytes]) -> list[int]:
    return [json.loads(line)["step"] for line in lines]


def first_words(worker: Submitted) -> list[int]:
    """What the worker says first, as soon as it says anything."""
    since, messages = worker.since, []
    while not messages:
        lines, since, status = worker.beats(since, 0.02)
        messages = steps(lines)
        assert status is None or messages
    return messages


def listing_only_an_input(job: Path) -> None:
    (job / "inputs").mkdir()
    (job / "inputs" / "rows.jsonl").write_bytes(b"")
    (job / "result.json").write_text(json.dumps({"files": {"inputs/rows.jsonl": EMPTY}}))


class ExecutorContract(ABC):
    """Give `executor`; collect the class as ``Test...``."""

    @pytest.fixture
    @abstractmethod
    def executor(self) -> Executor:
        """One that runs `stub_worker`."""

    def test_a_job_is_heard_and_its_result_comes_back(self, executor: Executor, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "job", steps=3)
        worker = executor.submit(folder)
        result = worker.beats(worker.since, LONG)
        assert (steps(result.lines), result.status) == ([1, 2, 3], 0)
        assert worker.beats(result.since, 0).lines == []
        assert worker.beats(worker.since, 0) == result, "an answer that was lost is given again"
        assert worker.fetch()
        assert (folder / "made" / "count.txt").read_text() == "3"
        assert (folder / "worker.log").is_file()

    def test_nothing_beside_the_job_is_code(self, executor: Executor, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "job", steps=1)
        for name in ("json.py", "stub_worker.py", "sitecustomize.py"):
            (folder / name).write_text("raise SystemExit(3)")
        worker = executor.submit(folder)
        assert worker.beats(worker.since, LONG).status == 0

    def test_a_killed_worker_is_told_and_the_next_goes_on(self, executor: Executor, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "job", steps=4, dies_at=2)
        worker = executor.submit(folder)
        result = worker.beats(worker.since, LONG)
        assert (steps(result.lines), result.status) == ([1, 2], -signal.SIGKILL)
        assert not worker.fetch()
        again = executor.submit(folder)
        result = again.beats(again.since, LONG)
        assert (steps(result.lines), result.status, again.fetch()) == ([3, 4], 0, True)

    def test_a_stalled_worker_keeps_nobody_waiting_and_can_be_ended(self, executor: Executor, tmp_path: Path) -> None:
        worker = executor.submit(folder_of(tmp_path / "job", steps=2, seconds_a_step=1000))
        assert first_words(worker) == [1]
        silent = worker.beats(worker.since, 0.01)
        assert (steps(silent.lines), silent.status) == ([1], None)
        worker.stop(0)
        assert worker.beats(silent.since, LONG).status in (-signal.SIGKILL, STOPPED)
        assert not worker.fetch()

    def test_a_worker_that_is_asked_to_stop_puts_its_work_away(self, executor: Executor, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "job", steps=2, seconds_a_step=1000)
        worker = executor.submit(folder)
        first_words(worker)
        worker.stop(LONG)
        assert worker.beats(worker.since, LONG).status == STOPPED

    def test_of_a_job_submitted_twice_one_worker_works_at_a_time(self, executor: Executor, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "job", steps=3, seconds_a_step=0.1)
        first, second = executor.submit(folder), executor.submit(folder)
        ends = [worker.beats(worker.since, LONG).status for worker in (first, second)]
        assert ends == [0, 0]
        assert second.fetch()
        assert (folder / "trace").read_text().split() == ["in", "out", "in", "out"]
        assert steps((folder / "heartbeat.jsonl").read_bytes().splitlines()) == [1, 2, 3]

    def test_what_is_no_plain_file_makes_a_result_none(self, executor: Executor, tmp_path: Path) -> None:
        """A link would lead out of the folder, and whoever reads a pipe waits for ever."""
        result_folder = tmp_path / "job" / "made"
        for spoil in (
            lambda: (result_folder / "link").symlink_to(tmp_path / "job" / "job.json"),
            lambda: (result_folder / "folder").symlink_to(tmp_path),
            lambda: os.mkfifo(result_folder / "pipe"),
            lambda: listing_only_an_input(tmp_path / "job"),
            lambda: result_folder.rename(tmp_path / "elsewhere") and result_folder.symlink_to(tmp_path / "elsewhere"),
        ):
            shutil.rmtree(tmp_path / "job", ignore_errors=True)
            worker = executor.submit(folder_of(tmp_path / "job", steps=1))
            assert worker.beats(worker.since, LONG).status == 0
            assert worker.fetch()
            spoil()
            assert not worker.fetch()

    @pytest.mark.parametrize(
        "afterwards",
        [
            {"made/count.txt": "4"},
            {"made/added.txt": ""},
            {"result.json": '{"files": {"made/count.txt": '},
            {"result.json": '{"files": {"made/gone.txt": "sha256:' + "0" * 64 + '"}}'},
            {"result.json": '{"files": {"../job.json": "sha256:' + "0" * 64 + '"}}'},
        ],
    )
    def test_a_damaged_result_is_none(self, executor: Executor, tmp_path: Path, afterwards: dict[str, str]) -> None:
        worker = executor.submit(folder_of(tmp_path / "job", steps=1, afterwards=afterwards))
        assert worker.beats(worker.since, LONG).status == 0
        assert not worker.fetch()
