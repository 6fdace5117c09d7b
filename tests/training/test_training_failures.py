from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from modelsmith.fleet.folder import lines_since
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.training import Tripwires
from modelsmith.training.checkpoints import COMPLETE, is_intact, last_intact, seal_checkpoint
from modelsmith.training.failures import (
    CorruptCheckpointError,
    DivergedError,
    TrippedError,
    as_error,
    as_worker_error,
    classify,
)
from modelsmith.training.job import DamagedInputError, Heartbeat, WorkerError, heartbeats
from modelsmith.training.measures import Measures, tripped

BEAT = Heartbeat(step=1, steps=2, loss=0.5, seconds=1.0, eta=1.0)


def raised(action: object) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        action()  # type: ignore[operator]
    return caught.value


def test_a_real_allocation_failure_is_oom() -> None:
    assert classify(raised(lambda: torch.empty(10**15))) == "oom"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        torch.distributed.DistBackendError(
            "NCCL error in: ProcessGroupNCCL.cpp:1296, unhandled cuda error\nLast error:\nFailed to CUDA calloc 6291456"
        ),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_ran_out_on_a_gpu_is_oom_whoever_says_so(error: Exception) -> None:
    """As the installed PyTorch and public reports on cuBLAS and NCCL spell it."""
    assert classify(error) == "oom"


def test_a_full_disk_is_named_whichever_library_writes() -> None:
    def plain() -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    def torch_writes() -> None:
        with Path("/dev/full").open("wb") as file:
            torch.save({"a": torch.zeros(100_000)}, file)

    assert classify(raised(plain)) == "disk-full"
    assert classify(OSError(errno.EDQUOT, "quota")) == "disk-full"
    assert classify(raised(torch_writes)) == "disk-full"
    assert classify(RuntimeError("I/O error: No space left on device (os error 28)")) == "disk-full"


def test_the_cause_of_an_exception_counts() -> None:
    def saving() -> None:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise RuntimeError("while saving") from error

    assert classify(raised(saving)) == "disk-full"


def test_other_classes() -> None:
    assert classify(DivergedError("nan")) == "nan-loss"
    assert classify(CorruptCheckpointError("checkpoint-3")) == "corrupt-checkpoint"
    assert classify(DamagedInputError("rows")) == "damaged-input"
    assert classify(KeyError("x")) == "crash"


def test_every_class_has_words_for_people() -> None:
    for failure in ("oom", "corrupt-checkpoint", "disk-full", "crash", "killed", "stalled"):
        error = as_error(WorkerError(failure=failure, message="m"), "log")
        assert isinstance(error, InfrastructureFailure)
        assert error.mend.endswith(".")
    assert isinstance(as_error(WorkerError(failure="nan-loss", message="m"), ""), InvalidInput)
    assert isinstance(as_error(WorkerError(failure="damaged-input", message="m"), ""), IntegrityFailure)


def test_who_is_tripped_reads_why_and_what_helps_against_that(tmp_path: Path) -> None:
    """Every tripwire was once told as a reward that rises, also one of rewards that never moved."""
    sound = Measures(reward=0.0, length=20, cut_off=0, entropy=0.6, equal_groups=0.2)
    histories = {
        "earned the same (0.00": [{"equal_groups": 1}] * 8,
        "earned the same (0.50": [{"equal_groups": 1, "reward": 0.5}] * 8,
        "answers grew": [{"length": 50}] * 4,
        "moved 1.50 nats": [{"kl": 1.5}],
    }
    mends = set()
    for words, last in histories.items():
        steps = [sound] * 8 + [sound.model_copy(update=change) for change in last]
        trip = tripped(dict(enumerate(steps, start=1)), Tripwires())
        assert trip
        failed = as_worker_error(tmp_path, TrippedError(*trip))
        error = as_error(failed, "", tmp_path)
        assert words in error.message
        assert "TrippedError" not in error.message
        assert (error.code, error.details["path"]) == ("training-tripped", str(tmp_path))
        mends.add(error.mend)
    assert len(mends) == len(histories)


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"weights %d" % step)
    seal_checkpoint(path)
    return path


def test_the_newest_intact_checkpoint_is_taken_and_torn_ones_are_removed(tmp_path: Path) -> None:
    nine, twelve, hundred = checkpoint(tmp_path, 9), checkpoint(tmp_path, 12), checkpoint(tmp_path, 100)
    (hundred / "COMPLETE.json").unlink()
    assert last_intact(tmp_path) == twelve
    assert not hundred.exists()
    (twelve / "adapter_model.safetensors").write_bytes(b"torn")
    assert last_intact(tmp_path) == nine
    (tmp_path / "checkpoint-99").write_text("a file, as only a hostile host leaves one")
    assert last_intact(tmp_path) == nine
    assert sorted(tmp_path.iterdir()) == [nine]


def test_an_added_or_removed_file_breaks_a_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    assert is_intact(folder)
    (folder / "optimizer.pt").write_bytes(b"x")
    assert not is_intact(folder)
    seal_checkpoint(folder)
    (folder / "optimizer.pt").unlink()
    assert not is_intact(folder)


def test_a_torn_last_heartbeat_waits_for_its_rest(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.jsonl"
    assert lines_since(path, 0) == ([], 0)
    line = BEAT.model_dump_json().encode() + b"\n"
    path.write_bytes(line + line[:10])
    lines, offset = lines_since(path, 0)
    assert (heartbeats(lines), offset) == ([BEAT], len(line))
    with path.open("ab") as file:
        file.write(line[10:])
    assert lines_since(path, offset) == ([line.rstrip()], 2 * len(line))


def test_a_checkpoint_with_a_marker_nested_too_deeply_is_not_intact(tmp_path):
    (tmp_path / COMPLETE).write_text("[" * 100_000)
    assert not is_intact(tmp_path)
