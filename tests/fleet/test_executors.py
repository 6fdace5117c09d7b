from __future__ import annotations

from pathlib import Path

import pytest
from fleet.executor_contract import ExecutorContract, folder_of

from modelsmith.fleet.executor import Executor, LocalExecutor
from modelsmith.fleet.hosts import executor_on
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput


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


def test_a_cluster_trains_on_a_host_that_this_version_knows_or_not_at_all() -> None:
    assert isinstance(executor_on(("gpu-1", "local"), "stub_worker"), LocalExecutor)
    for hosts in ((), ("gpu-1",)):
        with pytest.raises(InvalidInput) as caught:
            executor_on(hosts, "stub_worker")
        assert (caught.value.code, caught.value.details["hosts"]) == ("host-not-available", list(hosts))
