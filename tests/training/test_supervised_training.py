"""Real training of a tiny random Llama.

A worker process needs some seconds to import its libraries, so it is a process of its own only where a process is what
the test is about; elsewhere the same worker runs in a thread.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from modelsmith.fleet.executor import LocalExecutor, Running
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Lora, Planned, Sft
from modelsmith.schema.training_row import TrainingRow
from modelsmith.training import supervisor
from modelsmith.training.checkpoints import is_intact
from modelsmith.training.job import Heartbeat, TrainJob, WorkerError
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import TrainOutcome, train

STEPS = 60
"""Enough that a test can act while the worker is on its way; a step takes some 20 ms."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Thread and process compute with the same number of threads: results are compared bit by bit."""
    before, threads = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(
        path,
        [
            TrainingRow(
                messages=(Message(role="user", content=f"Note {i}: {'late' if i % 2 else 'bots'}"),),
                answer="timeout" if i % 2 else "invalid_traffic",
                generator="g",
                template="t",
                points=("cause",),
            )
            for i in range(10)
        ],
    )
    return path


@pytest.fixture(scope="module")
def job(tiny_model: Path, rows: Path) -> TrainJob:
    training = Sft(
        steps=STEPS, batch_size=3, learning_rate=0.01, checkpoint_every=5, lora=Lora(rank=4, alpha=8, dropout=0.1)
    )
    return TrainJob(model=str(tiny_model), parent=None, rows=str(rows), system="Name the cause.", training=training)


@pytest.fixture(scope="module")
def uninterrupted(job: TrainJob, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainOutcome]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(folder, job, Thread(), lambda beat: None)


class Thread:
    """An executor that runs the worker in a thread of this process."""

    def __init__(self) -> None:
        self.started = 0

    def start(self, module: str, folder: Path) -> Running:
        self.started += 1
        return _ThreadRunning(importlib.import_module(module).main, folder)


class _ThreadRunning:
    def __init__(self, main: Callable[[Path, threading.Event], int], folder: Path) -> None:
        self._asked = threading.Event()
        self._status: list[int] = []
        self._thread = threading.Thread(target=lambda: self._status.append(main(folder, self._asked)))
        self._thread.start()

    def wait(self, seconds: float) -> int | None:
        self._thread.join(seconds)
        return None if self._thread.is_alive() else self._status[0]

    def stop(self, grace: float) -> None:
        self._asked.set()
        self._thread.join()


class Watched(LocalExecutor):
    """The real executor, remembering the processes that it started."""

    def __init__(self) -> None:
        self.started: list[Any] = []

    def start(self, module: str, folder: Path) -> Running:
        running = super().start(module, folder)
        self.started.append(running)
        return running

    @property
    def pids(self) -> list[int]:
        return [running._process.pid for running in self.started]


def once_at(step: int, action: Callable[[], None]) -> Callable[[Heartbeat], None]:
    """A progress function that acts at the first heartbeat from this step on."""
    done: list[int] = []

    def progress(beat: Heartbeat) -> None:
        if beat.step >= step and not done:
            done.append(beat.step)
            action()

    return progress


def same_weights(one: Path, other: Path) -> bool:
    left, right = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    return left.keys() == right.keys() and all(bool((left[k] == right[k]).all()) for k in left)


def test_a_training_ends_with_an_adapter_and_its_facts(uninterrupted: tuple[Path, TrainOutcome]) -> None:
    folder, outcome = uninterrupted
    assert sorted(p.name for p in outcome.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert (outcome.steps, outcome.restarts, outcome.adopted) == (STEPS, 0, False)
    beats = [Heartbeat.model_validate_json(line) for line in (folder / "heartbeat.jsonl").read_bytes().splitlines()]
    assert [beat.step for beat in beats] == list(range(1, STEPS + 1))
    assert beats[-1].loss < beats[0].loss
    assert outcome.final_loss == pytest.approx(sum(beat.loss for beat in beats[-6:]) / 6)
    assert {"torch", "trl", "peft"} <= outcome.versions.keys()
    assert outcome.peak_bytes > 50_000_000


def test_the_adapter_names_no_path(uninterrupted: tuple[Path, TrainOutcome], tiny_model: Path) -> None:
    config = (uninterrupted[1].adapter / "adapter_config.json").read_text()
    assert str(tiny_model) not in config
    assert "/" not in config


def test_a_second_call_adopts_the_finished_result(uninterrupted: tuple[Path, TrainOutcome], job: TrainJob) -> None:
    folder, first = uninterrupted
    executor = Thread()
    again = train(folder, job, executor, lambda beat: None)
    assert (again.adopted, again.adapter, again.final_loss) == (True, first.adapter, first.final_loss)
    assert executor.started == 0


def test_the_same_job_from_other_paths_is_the_same_job(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    model = shutil.copytree(job.model, tmp_path / "model")
    rows = shutil.copy(job.rows, tmp_path / "other.jsonl")
    moved = job.model_copy(update={"model": str(model), "rows": str(rows)})
    assert train(uninterrupted[0], moved, Thread(), lambda beat: None).adopted


def test_the_folder_of_another_job_is_refused(uninterrupted: tuple[Path, TrainOutcome], job: TrainJob) -> None:
    other = job.model_copy(update={"system": "Another prompt."})
    with pytest.raises(InvalidInput) as caught:
        train(uninterrupted[0], other, Thread(), lambda beat: None)
    assert caught.value.code == "job-folder-taken"


def test_a_tampered_adapter_is_not_adopted(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    folder = shutil.copytree(uninterrupted[0], tmp_path / "job")
    with (folder / "adapter" / "adapter_model.safetensors").open("ab") as file:
        file.write(b"x")
    again = train(folder, job, Thread(), lambda beat: None)
    assert not again.adopted
    assert same_weights(again.adapter, uninterrupted[1].adapter)


def test_a_worker_killed_between_steps_goes_on_and_ends_in_the_same_adapter(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    watched = Watched()

    def progress(beat: Heartbeat) -> None:
        if beat.step >= 7 and len(watched.started) == 1:
            os.kill(watched.pids[0], signal.SIGSTOP)
            os.kill(watched.pids[0], signal.SIGKILL)

    folder = tmp_path / "job"
    outcome = train(folder, job, watched, progress)
    assert outcome.steps == STEPS
    assert same_weights(outcome.adapter, uninterrupted[1].adapter)


def test_training_after_a_kill_starts_at_the_last_intact_checkpoint(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    folder = stopped_at(7, job, tmp_path / "job")
    checkpoints = sorted((folder / "checkpoints").iterdir())
    assert [p.name for p in checkpoints if not is_intact(p)] == []
    newest = max(checkpoints, key=lambda p: int(p.name.rpartition("-")[2]))
    (newest / "optimizer.pt").write_bytes(b"torn")
    steps: list[int] = []
    outcome = train(folder, job, Thread(), lambda beat: steps.append(beat.step))
    before = max(int(p.name.rpartition("-")[2]) for p in checkpoints if p != newest)
    assert steps == list(range(before + 1, STEPS + 1))
    assert same_weights(outcome.adapter, uninterrupted[1].adapter)


def stopped_at(step: int, job: TrainJob, folder: Path) -> Path:
    """A job folder that a Ctrl-C has left behind."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder, job, Thread(), once_at(step, interrupt))
    return folder


def test_ctrl_c_leaves_a_checkpoint_and_no_worker_behind(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    watched = Watched()

    def interrupt() -> None:
        raise KeyboardInterrupt

    longer = job.model_copy(update={"training": job.training.model_copy(update={"steps": 400})})
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "job", longer, watched, once_at(2, interrupt))
    (running,) = watched.started
    assert running.wait(0) == 75
    assert any(is_intact(p) for p in (tmp_path / "job" / "checkpoints").iterdir())
    assert not (tmp_path / "job" / "result.json").exists()


def test_a_checkpoint_that_cannot_be_loaded_is_dropped_and_the_one_before_is_used(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    folder = stopped_at(7, job, tmp_path / "job")
    checkpoints = sorted((folder / "checkpoints").iterdir(), key=lambda p: int(p.name.rpartition("-")[2]))
    poisoned = checkpoints[-1]
    (poisoned / "trainer_state.json").write_text("{}")
    (poisoned / "optimizer.pt").write_bytes(b"whole, but no optimizer")
    from modelsmith.training.checkpoints import seal_checkpoint

    seal_checkpoint(poisoned)
    executor = Thread()
    outcome = train(folder, job, executor, lambda beat: None)
    assert (outcome.restarts, executor.started) == (1, 2)
    assert same_weights(outcome.adapter, uninterrupted[1].adapter)


def test_the_worker_ends_when_its_supervisor_dies(job: TrainJob, tmp_path: Path) -> None:
    longer = job.model_copy(update={"training": job.training.model_copy(update={"steps": 100_000})})
    (tmp_path / "job.json").write_text(longer.model_dump_json())
    program = (
        "import sys; from pathlib import Path\n"
        "from modelsmith.training.job import TrainJob; from modelsmith.training.supervisor import train\n"
        "from modelsmith.fleet.executor import LocalExecutor\n"
        "job = TrainJob.model_validate_json(Path(sys.argv[1]).read_bytes())\n"
        "train(Path(sys.argv[2]), job, LocalExecutor(), lambda beat: print(beat.step, flush=True))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "job.json"), str(tmp_path / "job")],
        stdout=subprocess.PIPE,
        cwd=Path(supervisor.__file__).parents[2],
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == b"1"
    parent.kill()
    parent.wait()
    with FileLock(tmp_path / "job" / ".worker.lock", timeout=60):
        assert any(is_intact(p) for p in (tmp_path / "job" / "checkpoints").iterdir())


def test_a_job_that_another_process_trains_is_busy(job: TrainJob, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    with FileLock(tmp_path / "job" / ".supervisor.lock"), pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, Thread(), lambda beat: None)
    assert caught.value.code == "job-busy"


def test_a_loss_that_is_no_number_is_named(job: TrainJob, tmp_path: Path) -> None:
    model = shutil.copytree(job.model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput) as caught:
        train(tmp_path / "job", job.model_copy(update={"model": str(model)}), Thread(), lambda beat: None)
    assert caught.value.code == "training-nan-loss"


def test_a_crash_is_not_retried_and_says_why(job: TrainJob, tmp_path: Path) -> None:
    model = shutil.copytree(job.model, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"not safetensors")
    executor = Thread()
    with pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job.model_copy(update={"model": str(model)}), executor, lambda beat: None)
    assert caught.value.code == "training-crash"
    assert "SafetensorError" in caught.value.details["reason"]
    assert executor.started == 1


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process, and of those that it starts, grows beyond this size: a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_at_a_checkpoint_is_named_whatever_the_library_says(job: TrainJob, tmp_path: Path) -> None:
    with largest_file(4000), pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, Thread(), lambda beat: None)
    assert (caught.value.code, "Free some space" in caught.value.mend) == ("training-disk-full", True)


def test_a_disk_without_room_for_the_error_is_named_too(job: TrainJob, tmp_path: Path) -> None:
    """A worker that can write neither its error nor its log has not just crashed."""

    class Full(LocalExecutor):
        def start(self, module: str, folder: Path) -> Running:
            disk.enter_context(largest_file(0))
            return super().start(module, folder)

    with ExitStack() as disk, pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, Full(), lambda beat: None)
    assert caught.value.code == "training-disk-full"
    assert not (tmp_path / "job" / "error.json").exists()


def test_training_goes_on_from_the_parents_adapter(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    parent = uninterrupted[1].adapter
    losses: list[float] = []
    child = job.model_copy(update={"parent": str(parent)})
    outcome = train(tmp_path / "job", child, Thread(), lambda beat: losses.append(beat.loss))
    first = json.loads((uninterrupted[0] / "heartbeat.jsonl").read_bytes().splitlines()[0])["loss"]
    assert losses[0] < first
    assert not same_weights(outcome.adapter, parent)


def test_a_parent_of_another_rank_is_refused(
    uninterrupted: tuple[Path, TrainOutcome], job: TrainJob, tmp_path: Path
) -> None:
    training = job.training.model_copy(update={"lora": Lora(rank=8, alpha=8)})
    child = job.model_copy(update={"parent": str(uninterrupted[1].adapter), "training": training})
    with pytest.raises(InvalidInput) as caught:
        train(tmp_path / "job", child, Thread(), lambda beat: None)
    assert caught.value.code == "parent-shape"


def test_top_layers_adapts_the_upper_layers_only(job: TrainJob, tmp_path: Path) -> None:
    training = job.training.model_copy(update={"steps": 1, "lora": Lora(rank=2, alpha=4, top_layers=1)})
    outcome = train(tmp_path / "job", job.model_copy(update={"training": training}), Thread(), lambda b: None)
    names = load_file(outcome.adapter / "adapter_model.safetensors").keys()
    assert names
    assert all(".layers.1." in name for name in names)


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_a_method_that_is_not_there_yet_is_refused(job: TrainJob, tmp_path: Path, method: str) -> None:
    training = Planned.model_validate({**job.training.model_dump(), "method": method})
    with pytest.raises(InvalidInput) as caught:
        train(tmp_path / "job", job.model_copy(update={"training": training}), Thread(), lambda beat: None)
    assert caught.value.code == "method-not-available"


class Puppet:
    """A worker that says nothing until it is stopped."""

    def __init__(self) -> None:
        self.gone = threading.Event()

    def start(self, module: str, folder: Path) -> Running:
        self.gone.clear()
        return self

    def wait(self, seconds: float) -> int | None:
        time.sleep(min(seconds, 0.01))
        return -9 if self.gone.is_set() else None

    def stop(self, grace: float) -> None:
        self.gone.set()


def test_a_worker_without_heartbeats_is_stopped_and_reported(
    job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_GRACE", 0.05)
    with pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, Puppet(), lambda beat: None)
    assert caught.value.code == "training-stalled"
    assert WorkerError(failure="stalled", message="x").failure == "stalled"
