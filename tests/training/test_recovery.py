"""Each failure is injected into a real worker, and what comes of it is held against an undisturbed training."""

from __future__ import annotations

import errno
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from trainings import Case, Thread, Watched, same_weights, small_case, train

from modelsmith.training import dpo, sft, signs
from modelsmith.training.job import Heartbeat, WorkerError
from modelsmith.training.recovery import REMEDIES, Recovery, recovery
from modelsmith.training.supervisor import TrainOutcome


@pytest.fixture(scope="module", params=["sft", "dpo"])
def case(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return small_case(request.param, tiny_model, tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="module")
def undisturbed(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TrainOutcome:
    return train(tmp_path_factory.mktemp("undisturbed") / "job", case, Thread(), lambda beat: None)


def test_where_memory_runs_out_half_the_rows_go_at_once_in_the_same_step(
    case: Case, undisturbed: TrainOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of this machine holds two rows, and no more from the third step on."""
    method = sft if case.training.method == "sft" else dpo
    real = method._Trainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step >= 3 and self.args.gradient_accumulation_steps == 1:
            raise MemoryError("out of memory")
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(method._Trainer, "compute_loss", compute_loss)
    beats: list[Heartbeat] = []
    outcome = train(tmp_path / "job", case, Thread(), beats.append)
    assert outcome.recoveries == (Recovery(failure="oom", action="smaller-batch", step=3, rows_at_once=2),)
    assert [beat.step for beat in beats] == [1, 2, 3, *range(3, 9)], "from the checkpoint before"
    assert outcome.final_loss == pytest.approx(undisturbed.final_loss, rel=1e-4)
    ours, theirs = (load_file(training.adapter / "adapter_model.safetensors") for training in (outcome, undisturbed))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=1e-2)


def test_inputs_that_were_damaged_on_the_host_are_copied_anew(
    case: Case, undisturbed: TrainOutcome, tmp_path: Path
) -> None:
    class Meddling(Thread):
        def submit(self, folder: Path) -> Any:
            if not self.started:
                (folder / "inputs" / "rows.jsonl").write_bytes(b"torn")
            return super().submit(folder)

    outcome = train(tmp_path / "job", case, Meddling(), lambda beat: None)
    assert [remedy.action for remedy in outcome.recoveries] == ["inputs-anew"]
    assert same_weights(outcome.adapter, undisturbed.adapter)


def test_every_remedy_has_an_end(case: Case) -> None:
    from modelsmith.training.job import TrainJob

    digest = "sha256:" + "0" * 64
    job = TrainJob(base=digest, parent=None, rows=digest, system="", training=case.training)
    for failure, remedy in REMEDIES.items():
        error, recoveries, tried = WorkerError(failure=failure, message=""), list[Recovery](), Counter[Any]()
        while (next_remedy := recovery(job, error, recoveries, tried, 0)) is not None:
            recoveries.append(next_remedy)
            tried[failure] += 1
        assert 0 < len(recoveries) <= remedy.most
    assert recoveries
    smaller = recovery(job, WorkerError(failure="oom", message=""), [], Counter(), 0)
    assert smaller is not None
    assert recovery(job, WorkerError(failure="crash", message=""), [], Counter(), 0) is None


def test_a_worker_that_is_asked_to_end_goes_on_to_the_very_same_adapter(tiny_model: Path, tmp_path: Path) -> None:
    watched = Watched(stops_after=3)

    def progress(beat: Heartbeat) -> None:
        if beat.step == 3 and len(watched.started) == 1:
            worker = psutil.Process(watched.pids[0])
            while worker.status() != psutil.STATUS_STOPPED:
                time.sleep(0.01)
            worker.terminate()
            worker.resume()

    longer = small_case("sft", tiny_model, tmp_path / "rows.jsonl").settings(steps=40)
    outcome = train(tmp_path / "job", longer, watched, progress)
    assert [(remedy.failure, remedy.action) for remedy in outcome.recoveries] == [("preempted", "resume")]
    calm = train(tmp_path / "calm", longer, Thread(), lambda beat: None)
    assert same_weights(outcome.adapter, calm.adapter)


def test_a_gradient_that_is_no_number_once_is_no_part_of_the_adapter(
    case: Case, undisturbed: TrainOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device errs once, in the backward pass of the fourth step: the loss that was told is a number."""
    method = sft if case.training.method == "sft" else dpo
    real, erred = method._Trainer.compute_loss, list[int]()

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = real(self, model, inputs, *args, **kwargs)
        if self.state.global_step == 3 and not erred:
            erred.append(3)
            return loss * float("nan")
        return loss

    monkeypatch.setattr(method._Trainer, "compute_loss", compute_loss)
    outcome = train(tmp_path / "job", case, Thread(), lambda beat: None)
    assert outcome.recoveries == (Recovery(failure="nan-loss", action="resume", step=3, rows_at_once=4),)
    assert same_weights(outcome.adapter, undisturbed.adapter)


def test_a_full_disk_is_made_room_on_by_older_checkpoints(
    case: Case, undisturbed: TrainOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk holds two checkpoints and not a third."""
    real, checkpoint_names = signs.seal_checkpoint, list[list[str]]()

    def seal_checkpoint(folder: Path) -> None:
        checkpoint_names.append(sorted(path.name for path in folder.parent.iterdir()))
        if folder.name == "checkpoint-6" and len(checkpoint_names) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(folder)

    monkeypatch.setattr(signs, "seal_checkpoint", seal_checkpoint)
    outcome = train(tmp_path / "job", case, Thread(), lambda beat: None)
    assert [(remedy.failure, remedy.action) for remedy in outcome.recoveries] == [("disk-full", "free-space")]
    assert checkpoint_names[3] == ["checkpoint-6"], "from the fourth step on, and no more than one is kept"
    assert same_weights(outcome.adapter, undisturbed.adapter)
