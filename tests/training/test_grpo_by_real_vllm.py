"""GRPO whose answers come from the real vLLM, on a CPU, with a tiny random Llama that its attention takes."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny import write_tiny_model
from training.grpo_inputs import RUBRIC, SETTINGS, rows
from training.vllm_jobs import job_of
from trainings import Watched
from vllms import need_vllm
from warm_workers import process_that_forks

from modelsmith.fleet.folder import JOB_FILE, write_json
from modelsmith.schema.training import Lora
from modelsmith.substrates.vllm.server import VllmServer
from modelsmith.training import run, supervisor
from modelsmith.training.failures import WeightsDifferError
from modelsmith.training.job import Heartbeat, Inputs, JobFile, Waiting, place
from modelsmith.training.judged import Reward
from modelsmith.training.recovery import Recovery
from modelsmith.training.sampler import Sampler, disagreement
from modelsmith.training.served import SAME, _apart, _require_same, serve
from modelsmith.training.signs import Signs

assert rows  # a fixture of the other module
pytestmark = [pytest.mark.alone, pytest.mark.timeout(1800)]
BY_VLLM = SETTINGS.model_copy(
    update={"sampler": "vllm", "steps": 4, "watch_every": 1, "checkpoint_every": 1, "lora": Lora(rank=1, alpha=8)}
)


@pytest.fixture(scope="module", autouse=True)
def vllm() -> None:
    need_vllm()


@pytest.fixture(scope="module")
def model(vllm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With heads of 32, the least that vLLM's attention takes on a CPU."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_tiny_model(folder, hidden=64)
    return folder


def test_a_training_killed_midway_ends_with_an_adapter_of_its_own(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole job by its worker, which dies once with its server; each step and each look proves whose weights."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    messages: list[Any] = []
    running = Watched()
    process_that_forks()
    before = set(psutil.Process().children(recursive=True))
    family: list[psutil.Process] = []

    def progress(beat: Heartbeat) -> None:
        messages.append(beat)
        if beat.step == 2 and not family:
            family.extend(psutil.Process(running.pids[0]).children(recursive=True))
            os.kill(running.pids[0], signal.SIGKILL)

    outcome = supervisor.train(
        tmp_path / "job", job_of(model, rows, BY_VLLM), Inputs(rows), running(model), progress, messages.append,
        waiting=messages.append,
    )  # fmt: skip
    assert len(family) > 2
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert [message.action for message in messages if isinstance(message, Recovery)] == ["resume"]
    assert {message.whom for message in messages if isinstance(message, Waiting)} == {"vLLM"}
    beats = {beat.step: beat.measures for beat in messages if isinstance(beat, Heartbeat)}
    assert list(beats) == [1, 2, 3, 4]
    assert all(beat and beat.held_in is not None and beat.entropy > 0 for beat in beats.values())
    assert outcome.versions["vllm"].startswith("vllm")
    assert psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=60)[1] == []


@pytest.fixture
def bench(model: Path, rows: Path, tmp_path: Path) -> Any:
    """What the worker makes its trainer of, with an adapter that changes every layer."""
    job, folder = job_of(model, rows, BY_VLLM), tmp_path / "job"
    folder.mkdir()
    write_json(folder / JOB_FILE, JobFile(identity=job.identity(), job=job))
    place(folder, job, Inputs(rows))
    bench_made = run._bench(folder, job, model, Signs(folder, threading.Event()), Reward(RUBRIC))
    with bench_made.cleanup:
        yield bench_made


def test_an_adapter_of_a_step_before_is_found_by_what_it_says(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers with the adapter as it was before one small step; a sampler in this process would not."""
    from peft import get_peft_model

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    trained = get_peft_model(bench.model, bench.adapter)
    _move(trained, 0.3)
    prompts = [[1, 5, 6, 7, 8], [1, 9, 10, 11]]
    by_vllm = serve(replace(bench, model=trained), BY_VLLM, longest=64)
    recorded: list[float] = []
    require = _require_same

    def required(model: Any, outputs: Any) -> None:
        recorded.append(max(max(_apart(model, prompt, output)) for prompt, output in outputs))
        require(model, outputs)

    monkeypatch.setattr("modelsmith.training.served._require_same", required)
    greedy = by_vllm.greedy(trained, prompts, 8)
    assert [output.tokens for output in greedy] == [
        output.tokens for output in Sampler(trained, bench.tokenizer).greedy(trained, prompts, 8)
    ]
    assert [disagreement(trained, ids, output) for ids, output in zip(prompts, greedy, strict=True)] == [None, None]
    drawn = by_vllm.draw(trained, prompts, 4, 8, 0.7, seeds=[1, 11])
    assert len({tuple(output.tokens) for output in drawn}) > 4
    assert [output.tokens for output in by_vllm.draw(trained, prompts, 4, 8, 0.7, seeds=[1, 11])] == [
        output.tokens for output in drawn
    ]
    _move(trained, 0.01)
    by_vllm.draw(trained, prompts, 4, 8, 0.7, seeds=[2, 12])
    before = by_vllm._name(trained)
    print("as far apart as", recorded)
    assert max(recorded) < SAME[torch.float32] / 10
    _move(trained, 0.01)
    monkeypatch.setattr(VllmServer, "load_adapter", lambda self, folder, digest: before)
    monkeypatch.setattr(VllmServer, "forget_adapter", lambda self, digest: None)
    with pytest.raises(WeightsDifferError) as caught:
        by_vllm.draw(trained, prompts, 4, 8, 0.7, seeds=[3, 13])
    print(caught.value)


def _move(model: Any, far: float) -> None:
    generator = torch.Generator().manual_seed(int(far * 1000))
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            tensor.data += torch.randn(tensor.shape, generator=generator) * far
