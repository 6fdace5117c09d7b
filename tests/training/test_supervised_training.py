"""Real training of a tiny random Llama.

A worker process needs some seconds to import its libraries, so it is a process of its own only where a process is what
the test is about; elsewhere the same worker runs in a thread.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file
from trainings import Case, Thread, Watched, once_at, same_weights, sealed, train

from modelsmith.fleet.executor import Beats, LocalExecutor, Submitted
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Dpo, Lora, Sft
from modelsmith.schema.training_row import TrainingRow
from modelsmith.substrates.base_models import listing_digest
from modelsmith.training import supervisor, worker
from modelsmith.training.checkpoints import is_intact
from modelsmith.training.job import QUANTISES, Heartbeat, TrainJob
from modelsmith.training.rows import read_rows, write_rows
from modelsmith.training.supervisor import TrainOutcome

STEPS = 60
"""Enough that a test can act while the worker is on its way; a step takes some 20 ms."""


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
def job(tiny_model: Path, rows: Path) -> Case:
    lora = Lora(rank=4, alpha=8, dropout=0.1)
    return Case(tiny_model, rows, Sft(steps=STEPS, batch_size=3, learning_rate=0.01, checkpoint_every=5, lora=lora))


@pytest.fixture(scope="module")
def uninterrupted(job: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainOutcome]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(folder, job, Thread(), lambda beat: None)


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


def test_a_second_call_adopts_the_finished_result(uninterrupted: tuple[Path, TrainOutcome], job: Case) -> None:
    folder, first = uninterrupted
    executor = Thread()
    again = train(folder, job, executor, lambda beat: None)
    assert (again.adopted, again.adapter, again.final_loss) == (True, first.adapter, first.final_loss)
    assert executor.started == 0


def test_the_same_job_from_other_paths_is_the_same_job(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path
) -> None:
    model = shutil.copytree(job.model, tmp_path / "model")
    moved = replace(job, model=model, rows=Path(shutil.copy(job.rows, tmp_path / "other.jsonl")))
    assert train(uninterrupted[0], moved, Thread(), lambda beat: None).adopted


def test_the_folder_of_another_job_is_refused(uninterrupted: tuple[Path, TrainOutcome], job: Case) -> None:
    other = replace(job, system="Another prompt.")
    with pytest.raises(InvalidInput) as caught:
        train(uninterrupted[0], other, Thread(), lambda beat: None)
    assert caught.value.code == "job-folder-taken"


def test_a_row_longer_than_the_model_s_context_is_refused_by_its_line(job: Case, tmp_path: Path) -> None:
    """It would be trained at places that the model never learned; a pair and a prompt are looked at likewise."""
    whole = read_rows(job.rows, TrainingRow)
    long = whole[1].model_copy(update={"messages": (Message(role="user", content="late " * 300),)})
    write_rows(tmp_path / "rows.jsonl", [whole[0], long])
    with pytest.raises(InvalidInput) as caught:
        train(tmp_path / "job", replace(job, rows=tmp_path / "rows.jsonl"), Thread(), lambda beat: None)
    assert caught.value.code == "training-row-too-long"
    assert re.search(r"Line 2 of rows\.jsonl has 1[0-9]{3} tokens; the model takes 1024\.", caught.value.message)
    assert caught.value.details["path"] == str(tmp_path / "job")


def test_a_tampered_adapter_is_not_adopted(uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(uninterrupted[0], tmp_path / "job")
    with (folder / "adapter" / "adapter_model.safetensors").open("ab") as file:
        file.write(b"x")
    again = train(folder, job, Thread(), lambda beat: None)
    assert not again.adopted
    assert same_weights(again.adapter, uninterrupted[1].adapter)


def test_a_worker_killed_between_steps_ends_in_the_same_adapter(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path
) -> None:
    """Also where activations are not kept, which is the same job at another cost."""
    watched = Watched(stops_after=7)

    def progress(beat: Heartbeat) -> None:
        if beat.step >= 7 and len(watched.started) == 1:
            os.kill(watched.pids[0], signal.SIGKILL)

    folder = tmp_path / "job"
    outcome = train(folder, job.settings(gradient_checkpointing=True), watched, progress)
    assert outcome.steps == STEPS
    assert same_weights(outcome.adapter, uninterrupted[1].adapter)


def test_a_worker_that_is_killed_after_its_last_word_has_trained(job: Case, tmp_path: Path) -> None:
    """As where a library aborts while Python takes itself apart: the result lies there whole."""

    class Aborts(Thread):
        def submit(self, folder: Path) -> Submitted:
            submitted = super().submit(folder)
            read_beats = submitted.beats
            submitted.beats = lambda since, seconds: killed(read_beats(since, seconds))
            return submitted

    def killed(beats: Beats) -> Beats:
        return beats if beats.status is None else beats._replace(status=-signal.SIGABRT)

    executor = Aborts()
    outcome = train(tmp_path / "job", job, executor, lambda beat: None)
    assert (outcome.steps, outcome.recoveries, executor.started) == (STEPS, (), 1)


def test_training_after_a_kill_starts_at_the_last_intact_checkpoint(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path
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


def stopped_at(step: int, job: Case, folder: Path) -> Path:
    """A job folder that a Ctrl-C has left behind."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder, job, Thread(), once_at(step, interrupt))
    return folder


def test_ctrl_c_leaves_a_checkpoint_and_no_worker_behind(job: Case, tmp_path: Path) -> None:
    """Nor did that worker, which was really started, spend time on libraries that it does not use."""
    watched, loaded = Watched(LocalExecutor), list[str]()

    def interrupt() -> None:
        loaded.extend(mapped.path for mapped in psutil.Process(watched.pids[0]).memory_maps())
        raise KeyboardInterrupt

    longer = job.settings(steps=400)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "job", longer, watched, once_at(2, interrupt))
    (running,) = watched.started
    assert running.beats(0, 0).status == 75
    libraries = {name for name in ("torch", *worker.UNUSED, QUANTISES) if any(f"/{name}/" in path for path in loaded)}
    assert libraries == {"torch"}
    assert any(is_intact(p) for p in (tmp_path / "job" / "checkpoints").iterdir())
    assert not (tmp_path / "job" / "result.json").exists()


def test_a_checkpoint_that_cannot_be_loaded_gives_way_to_the_one_before(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path
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


def test_the_worker_ends_when_its_supervisor_dies(job: Case, tmp_path: Path) -> None:
    longer = job.settings(steps=100_000)
    train_job = TrainJob(
        base=listing_digest(job.model), parent=None, rows=file_digest(job.rows), system="", training=longer.training
    )
    (tmp_path / "job.json").write_text(train_job.model_dump_json())
    program = (
        "import sys; from pathlib import Path\n"
        "from modelsmith.training.job import Inputs, TrainJob\n"
        "from modelsmith.training.supervisor import WORKER, train\n"
        "from modelsmith.fleet.executor import LocalExecutor\n"
        "asked, folder, rows, model = map(Path, sys.argv[1:])\n"
        "job, executor = TrainJob.model_validate_json(asked.read_bytes()), LocalExecutor(WORKER, model)\n"
        "train(folder, job, Inputs(rows), executor, lambda beat: print(beat.step, flush=True))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "job.json", tmp_path / "job", job.rows, job.model],
        stdout=subprocess.PIPE,
        cwd=Path(supervisor.__file__).parents[2],
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == b"1"
    parent.kill()
    parent.wait()
    with FileLock(tmp_path / "job" / ".worker.lock", timeout=60):
        assert any(is_intact(p) for p in (tmp_path / "job" / "checkpoints").iterdir())


def test_a_job_that_another_process_trains_is_busy(job: Case, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    with FileLock(tmp_path / "job" / ".supervisor.lock"), pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, Thread(), lambda beat: None)
    assert caught.value.code == "job-busy"


def test_a_loss_that_is_no_number_is_named(job: Case, tmp_path: Path) -> None:
    model = shutil.copytree(job.model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput) as caught:
        train(tmp_path / "job", replace(job, model=model), Thread(), lambda beat: None)
    assert caught.value.code == "training-nan-loss"


def test_a_crash_is_not_retried_and_says_why(job: Case, tmp_path: Path) -> None:
    model = shutil.copytree(job.model, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"not safetensors")
    executor = Thread()
    with pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", replace(job, model=model), executor, lambda beat: None)
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


def test_a_disk_full_at_a_checkpoint_is_named_whatever_the_library_says(job: Case, tmp_path: Path) -> None:
    with largest_file(4000), pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, Thread(), lambda beat: None)
    assert (caught.value.code, "Free some space" in caught.value.mend) == ("training-disk-full", True)


def test_a_disk_without_room_for_the_error_is_named_too(job: Case, tmp_path: Path) -> None:
    """A worker that can write neither its error nor its log has not just crashed."""

    class Full(Watched):
        def submit(self, folder: Path) -> Submitted:
            disk.enter_context(largest_file(0))
            return super().submit(folder)

    with ExitStack() as disk, pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, Full(LocalExecutor), lambda beat: None)
    assert caught.value.code == "training-disk-full"
    assert not (tmp_path / "job" / "error.json").exists()


def test_training_goes_on_from_the_parents_adapter(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path
) -> None:
    parent = sealed(uninterrupted[1].adapter, tmp_path / "parent")
    losses: list[float] = []
    outcome = train(tmp_path / "job", replace(job, parent=parent), Thread(), lambda beat: losses.append(beat.loss))
    first = json.loads((uninterrupted[0] / "heartbeat.jsonl").read_bytes().splitlines()[0])["loss"]
    assert losses[0] < first
    assert not same_weights(outcome.adapter, parent)


def test_a_parent_of_another_rank_is_refused(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path
) -> None:
    parent = sealed(uninterrupted[1].adapter, tmp_path / "parent")
    child = replace(job.settings(lora=Lora(rank=8, alpha=8)), parent=parent)
    with pytest.raises(InvalidInput) as caught:
        train(tmp_path / "job", child, Thread(), lambda beat: None)
    assert caught.value.code == "parent-shape"


def test_top_layers_adapts_the_upper_layers_only(job: Case, tmp_path: Path) -> None:
    one_step = job.settings(steps=1, lora=Lora(rank=2, alpha=4, top_layers=1))
    outcome = train(tmp_path / "job", one_step, Thread(), lambda b: None)
    names = load_file(outcome.adapter / "adapter_model.safetensors").keys()
    assert names
    assert all(".layers.1." in name for name in names)


def test_a_method_that_is_not_there_yet_is_refused(job: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(worker.METHODS, "dpo")
    training = Dpo.model_validate({**job.training.model_dump(), "method": "dpo"})
    with pytest.raises(InvalidInput) as caught:
        train(tmp_path / "job", replace(job, training=training), Thread(), lambda beat: None)
    assert caught.value.code == "method-not-available"


class Puppet:
    """A worker that says nothing until it is stopped."""

    since = 0

    def __init__(self) -> None:
        self.stopped = False

    def __call__(self, base: Path) -> Puppet:
        return self

    def submit(self, folder: Path) -> Submitted:
        return self

    def beats(self, since: int, seconds: float) -> Beats:
        time.sleep(min(seconds, 0.01))
        return Beats([], since, None)

    def fetch(self) -> bool:
        return False

    def stop(self, grace: float) -> None:
        self.stopped = True


def test_a_worker_without_heartbeats_is_stopped_and_reported(
    job: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_GRACE", 0.05)
    puppet = Puppet()
    with pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", job, puppet, lambda beat: None)
    assert (caught.value.code, puppet.stopped) == ("training-stalled", True)


@pytest.mark.parametrize("damaged", ["inputs/rows.jsonl", "inputs/parent/README.md", "job.json", "the base model"])
def test_a_worker_trains_on_nothing_but_what_the_job_names(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path, damaged: str
) -> None:
    """The folder may have come over a network, and the base model lies on the host."""

    class Meddling(Thread):
        def submit(self, folder: Path) -> Submitted:
            if damaged == "the base model":
                self._places = (tmp_path,)
            else:
                path = folder / damaged
                path.write_text(path.read_text().replace("cause", "effect") + " ")
            return super().submit(folder)

    case = replace(job, parent=sealed(uninterrupted[1].adapter, tmp_path / "parent"))
    with pytest.raises(IntegrityFailure) as caught:
        train(tmp_path / "job", case, Meddling(), lambda beat: None)
    assert caught.value.code == "training-damaged-input"
    assert damaged.removesuffix("/README.md") in caught.value.details["reason"]
    assert not (tmp_path / "job" / "heartbeat.jsonl").exists()


def test_the_folder_and_the_base_model_are_all_that_a_host_needs(
    uninterrupted: tuple[Path, TrainOutcome], job: Case, tmp_path: Path
) -> None:
    """Carried elsewhere with nothing else left behind, it ends in the same adapter."""
    prepared = tmp_path / "prepared"
    rows = Path(shutil.copy(job.rows, tmp_path / "rows.jsonl"))
    with pytest.raises(InterruptedError):
        train(prepared, replace(job, rows=rows), Elsewhere, lambda beat: None)
    rows.unlink()
    carried = Path(shutil.move(prepared, tmp_path / "host"))
    assert str(tmp_path) not in (carried / "job.json").read_text()
    assert worker.main(carried, shutil.copytree(job.model, tmp_path / "model"), threading.Event()) == 0
    assert same_weights(carried / "adapter", uninterrupted[1].adapter)


class Elsewhere:
    """No executor of this machine."""

    def __init__(self, base: Path) -> None: ...

    def submit(self, folder: Path) -> Submitted:
        raise InterruptedError
