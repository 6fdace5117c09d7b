"""A training on two devices, as two processes on the CPU, beside the same training on one."""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sshd import Ways
from trainings import Case, Thread, small_case, train
from warm_workers import Warm

from modelsmith.fleet.executor import Executor, Submitted
from modelsmith.fleet.hosts import Model, executor_on
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.training import Grpo, Sft, unfit
from modelsmith.substrates.base_models import listing_digest
from modelsmith.training.job import Heartbeat, TrainJob, WorkerError
from modelsmith.training.order import shares, steps
from modelsmith.training.recovery import Recovery, parts_of_step, recovery
from modelsmith.training.supervisor import WORKER, TrainOutcome

DIGEST = "sha256:" + "0" * 64
STEPS = 12


class Two:
    """The real executor on two devices, whose processes are forks."""

    def __init__(self) -> None:
        self.started: list[Any] = []

    def __call__(self, base: Path) -> Two:
        self._real = Warm(WORKER, base, devices=2)
        return self

    def submit(self, folder: Path) -> Submitted:
        self.started.append(self._real.submit(folder))
        return self.started[-1]

    @property
    def launcher(self) -> psutil.Process:
        """Of the worker that was started last."""
        return psutil.Process(self.started[-1]._process.pid)

    @property
    def ranks(self) -> list[psutil.Process]:
        """In their order, which is that in which they were started."""
        return sorted(self.launcher.children(), key=lambda process: (process.create_time(), process.pid))


def both(folder: Path, case: Case, progress: Callable[[Heartbeat], None], executor: Two | None = None) -> TrainOutcome:
    return train(folder, case, executor or Two(), progress, devices=2)


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    ways_there = Ways(tmp_path / "ssh", monkeypatch)
    yield ways_there
    ways_there.close()


@pytest.fixture(scope="module", params=["sft", "dpo"])
def case(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Eight rows, of which a step takes six and the next one the two that are left: so many that one rank has none."""
    case = small_case(request.param, tiny_model, tmp_path_factory.mktemp("rows") / "rows.jsonl")
    return case.settings(steps=STEPS, batch_size=6, learning_rate=0.003)


@pytest.fixture(scope="module")
def undisturbed(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainOutcome, list[Heartbeat]]:
    beats: list[Heartbeat] = []
    return both(tmp_path_factory.mktemp("two") / "job", case, beats.append), beats


def near(first: Path, other: Path) -> None:
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (first, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=2e-3, rtol=1e-2)


def test_two_devices_learn_what_one_learns_from_the_same_rows(
    case: Case, undisturbed: tuple[TrainOutcome, list[Heartbeat]], tmp_path: Path
) -> None:
    alone: list[Heartbeat] = []
    outcome = train(tmp_path / "job", case, Thread(), alone.append)
    together, beats = undisturbed
    assert [beat.step for beat in beats] == [beat.step for beat in alone] == list(range(1, STEPS + 1))
    for ours, theirs in zip(beats, alone, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=2e-3, abs=2e-4), ours.step
        assert (ours.accuracy is None) == (theirs.accuracy is None)
        assert ours.margin == (theirs.margin and pytest.approx(theirs.margin, rel=1e-2, abs=1e-3)), ours.step
    assert beats[-1].loss < beats[0].loss
    assert (together.devices, outcome.devices) == (2, 1)
    near(together.adapter, outcome.adapter)


@pytest.mark.parametrize("case", ["sft"], indirect=True)
def test_two_devices_of_a_host_make_the_adapter_of_two_devices_here(
    case: Case, undisturbed: tuple[TrainOutcome, list[Heartbeat]], ways: Ways, tmp_path: Path
) -> None:
    host = ways.host()
    shutil.copytree(case.model, host.home / "models" / listing_digest(case.model).removeprefix("sha256:"))
    ways.write(tmp_path / "home")

    def executor(model: Path) -> Executor:
        models = [Model(listing_digest(model), model)]
        return executor_on(tmp_path / "home", [host.name], WORKER, models, lambda _: None, devices=2)

    outcome = train(tmp_path / "job", case, executor, lambda beat: None, devices=2)
    assert (outcome.devices, outcome.recoveries, host.processes()) == (2, (), [])
    undisturbed_run, _ = undisturbed
    assert {path.name: file_digest(path) for path in outcome.adapter.iterdir()} == {
        path.name: file_digest(path) for path in undisturbed_run.adapter.iterdir()
    }


def wait_for_end(processes: list[psutil.Process]) -> None:
    """Waits until all have ended."""
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


def test_the_end_of_one_process_ends_all_and_training_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    """A rank is killed; then Ctrl-C; then one device goes on for a while; then what is above the ranks is killed."""
    case = small_case("sft", tiny_model, tmp_path / "rows.jsonl").settings(
        steps=160, batch_size=6, learning_rate=0.0005
    )
    executor, recorded, first = Two(), list[psutil.Process](), list[int]()

    def kill_and_interrupt(beat: Heartbeat) -> None:
        if len(executor.started) == 1 and not recorded and beat.step >= 3:
            recorded.extend([executor.launcher, *executor.ranks])
            recorded[2].kill()
        if len(executor.started) == 2:
            first.append(beat.step)
            recorded.extend([executor.launcher, *executor.ranks])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both(tmp_path / "job", case, kill_and_interrupt, executor)
    wait_for_end(recorded)

    def interrupt(beat: Heartbeat) -> None:
        first.append(beat.step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "job", case, Thread(), interrupt)

    def kill_the_launcher(beat: Heartbeat) -> None:
        if len(executor.started) == 3:
            first.append(beat.step)
            recorded.extend([executor.launcher, *executor.ranks])
            executor.launcher.kill()
            executor.started.append(None)

    outcome = both(tmp_path / "job", case, kill_the_launcher, executor)
    wait_for_end(recorded)
    assert [(step.failure, step.action) for step in outcome.recoveries] == [("killed", "resume")] * 2
    assert (outcome.steps, first == sorted(first), 1 in first) == (160, True, False), "each from a checkpoint"
    assert not [*(tmp_path / "job").glob(".ranks-*/")], "nor does what was killed leave a place to meet"
    near(outcome.adapter, train(tmp_path / "calm", case, Thread(), lambda beat: None).adapter)


def test_what_one_of_two_processes_fails_of_is_named(tiny_model: Path, tmp_path: Path) -> None:
    """And not that the other one lost it."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput) as caught:
        both(tmp_path / "job", small_case("sft", model, tmp_path / "rows.jsonl"), lambda beat: None)
    assert caught.value.code == "training-nan-loss"


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes, of the extra qlora, is not installed"
)
def test_two_devices_train_over_a_base_in_4_bits(tiny_model: Path, tmp_path: Path) -> None:
    case = small_case("sft", tiny_model, tmp_path / "rows.jsonl").settings(load_in_4bit=True, learning_rate=0.003)
    together = both(tmp_path / "two", case, lambda beat: None)
    near(together.adapter, train(tmp_path / "one", case, Thread(), lambda beat: None).adapter)


@given(rows=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 99))
def test_rows_come_as_accelerate_shuffles_them(rows: int, size: int, seed: int) -> None:
    sampler = SeedableRandomSampler(range(rows), data_seed=seed)

    def epochs() -> Iterator[list[int]]:
        for _ in range(3):
            order = list(sampler)
            yield from (order[start : start + size] for start in range(0, rows, size))

    due = list(epochs())
    assert list(islice(steps(rows, size, seed), len(due))) == due


@given(step=st.integers(1, 24), each=st.integers(1, 4), into=st.integers(1, 6))
def test_shares_of_a_step_are_its_rows_in_order(step: int, each: int, into: int) -> None:
    rows = list(range(min(step, each * into)))
    parts = shares(rows, each * into, into)
    assert (len(parts), [row for share in parts for row in share]) == (into, rows)
    assert max(map(len, parts)) <= each


@given(each=st.integers(1, 48), devices=st.integers(1, 8))
def test_memory_that_runs_out_leaves_each_device_as_many_rows(each: int, devices: int) -> None:
    size = each * devices
    job = TrainJob(base=DIGEST, parent=None, rows=DIGEST, system="", training=Sft(batch_size=size))
    recoveries, tried = list[Recovery](), Counter[Any]()
    assert parts_of_step(job, recoveries, devices) == 1
    while (remedy := recovery(job, WorkerError(failure="oom", message=""), recoveries, tried, 0, devices)) is not None:
        recoveries.append(remedy)
        tried["oom"] += 1
        parts = parts_of_step(job, recoveries, devices)
        assert each % parts == 0
        assert remedy.rows_at_once % devices == 0
        assert each // parts == remedy.rows_at_once // devices == each // 2 ** len(recoveries)
    for others in range(1, 9):
        if size % others == 0:
            assert (size // others) % parts_of_step(job, recoveries, others) == 0, (
                "also when the number is another by then"
            )


def test_devices_that_cannot_share_a_stage_are_refused_before_a_start(tiny_model: Path, tmp_path: Path) -> None:
    executor = Two()
    odd = small_case("sft", tiny_model, tmp_path / "rows.jsonl").settings(batch_size=3)
    with pytest.raises(InvalidInput) as caught:
        both(tmp_path / "job", odd, lambda beat: None, executor)
    assert caught.value.code == "devices-unfit"
    rewarded = Grpo(method="grpo", batch_size=24, group_size=4)
    for stage in (
        rewarded.model_copy(update={"group_size": 8}),
        rewarded.model_copy(update={"sampler": "vllm"}),
    ):
        assert (unfit(rewarded, 2), unfit(stage, 1)) == (None, None)
        with pytest.raises(InvalidInput) as caught:
            both(tmp_path / "job", Case(tiny_model, odd.rows, stage), lambda beat: None, executor)
        assert (caught.value.code, executor.started) == ("devices-unfit", [])
