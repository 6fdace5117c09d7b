"""A training by reward on a host behind a real sshd, whose worker is killed where a checkpoint or a result is written.

Each time the host's worker goes on, and the adapter is this machine's own, to the digest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Ways
from training.grpo_inputs import RUBRIC, SETTINGS, rows
from trainings import Case, Thread, train

from modelsmith.fleet.executor import Executor
from modelsmith.fleet.hosts import Model, executor_on
from modelsmith.schema.canonical import file_digest
from modelsmith.substrates.base_models import listing_digest
from modelsmith.training.job import Heartbeat
from modelsmith.training.supervisor import TrainOutcome

__all__ = ["rows"]
POINTS = {
    "while a checkpoint is written": ("transformers.trainer:Trainer._save_optimizer_and_scheduler,2,before", [3, 4]),
    "when a checkpoint is whole": ("modelsmith.training.signs:seal_checkpoint,2,after", []),
    "between adapter and result": ("modelsmith.training.run:write_json,1,before", []),
}
"""Where the worker is killed, and the steps of six that are taken again."""


@pytest.fixture(scope="module")
def case(tiny_model: Path, rows: Path) -> Case:
    return Case(tiny_model, rows, SETTINGS, rubric=RUBRIC)


@pytest.fixture(scope="module")
def local_outcome(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TrainOutcome:
    return train(tmp_path_factory.mktemp("here") / "job", case, Thread(), lambda beat: None)


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    ways_there = Ways(tmp_path / "ssh", monkeypatch)
    yield ways_there
    ways_there.close()


@pytest.mark.parametrize("where", POINTS)
def test_a_killed_reward_training_on_a_host_ends_as_here(
    case: Case, local_outcome: TrainOutcome, ways: Ways, tmp_path: Path, where: str
) -> None:
    point, again = POINTS[where]
    host = ways.host(PYTHONPATH=str(Path(__file__).parent), DISTURBED=f"{point},SIGKILL")
    shutil.copytree(case.model, host.home / "models" / listing_digest(case.model).removeprefix("sha256:"))
    ways.write(tmp_path / "home")

    def executor(model: Path) -> Executor:
        models = [Model(listing_digest(model), model)]
        return executor_on(tmp_path / "home", [host.name], "disturbed_worker", models, lambda _: None)

    beats: list[Heartbeat] = []
    outcome = train(tmp_path / "job", case, executor, beats.append)
    assert [(recovery.failure, recovery.action) for recovery in outcome.recoveries] == [("killed", "resume")]
    assert sorted(beat.step for beat in beats) == sorted([1, 2, 3, 4, 5, 6, *again])
    assert (outcome.reward, outcome.steps) == (local_outcome.reward, 6)
    assert {path.name: file_digest(path) for path in outcome.adapter.iterdir()} == {
        path.name: file_digest(path) for path in local_outcome.adapter.iterdir()
    }
    assert (host.processes(), list((host.work / "jobs").iterdir())) == ([], [])
