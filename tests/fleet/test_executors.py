from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from fleet.executor_contract import ExecutorContract, folder_of

from modelsmith.fleet import executor as of_executor
from modelsmith.fleet import ranks
from modelsmith.fleet.executor import Executor, LocalExecutor
from modelsmith.schema.errors import InfrastructureFailure


class TestThisMachine(ExecutorContract):
    @pytest.fixture
    def executor(self, monkeypatch: pytest.MonkeyPatch) -> Executor:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
        return LocalExecutor("stub_worker")

    def test_a_worker_that_cannot_be_started_is_named(self, executor: Executor, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "job", steps=1)
        (folder / "worker.log").mkdir()
        with pytest.raises(InfrastructureFailure) as caught:
            executor.submit(folder)
        assert caught.value.code == "worker-start"

    def test_a_worker_that_no_signal_ends_holds_nobody_up(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As one that hangs within a GPU's driver: it is killed and does not end."""
        monkeypatch.setattr(of_executor, "_UNKILLABLE", 0.01)
        job = executor.submit(folder_of(tmp_path / "job", steps=2, seconds_a_step=1000))
        process = job._process  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(process, "poll", lambda: None)
            patch.setattr(process, "wait", lambda timeout: never(process.args, timeout))
            job.stop(0)
        process.wait()


def never(words: Any, timeout: float) -> int:
    raise subprocess.TimeoutExpired(words, timeout)


def test_ranks_of_a_killed_launcher_leave_no_folder_others_keep_theirs(tmp_path: Path) -> None:
    """Two launchers may be in one job's folder: the second waits there until the first has ended."""
    (tmp_path / ".ranks-killed").mkdir()
    (tmp_path / ".ranks-killed" / "meeting").touch()
    with ranks._meeting(tmp_path) as first, ranks._meeting(tmp_path) as second:
        assert {*tmp_path.glob(".ranks-*/")} == {first.parent, second.parent}
        assert first.parent.stat().st_mode & 0o077 == 0
    assert not [*tmp_path.glob(".ranks-*/")]
