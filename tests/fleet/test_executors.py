from __future__ import annotations

from pathlib import Path

import pytest
from fleet.executor_contract import ExecutorContract, folder_of

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
