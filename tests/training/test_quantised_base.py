"""QLoRA of a tiny random Llama by each method: bitsandbytes quantises on a CPU as it does on a GPU."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trainings import Case, Thread, Watched, same_weights, sealed, train

from modelsmith.schema.canonical import content_digest
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Dpo, Grpo, Lora, Sft, Stage, Tripwires
from modelsmith.schema.training_row import PreferencePair, Prompt, TrainingRow
from modelsmith.substrates.adapter import require_fit
from modelsmith.training import worker
from modelsmith.training.job import QUANTISES, Heartbeat, TrainJob
from modelsmith.training.loading import computes_in, is_4bit, load
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import TrainOutcome

quantises = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes, of the extra qlora, is not installed"
)
RUBRIC = Rubric.model_validate(
    {
        "id": "r", "owner": "lead", "description": "D.",
        "points": ({"id": "letter", "text": "Early.", "weight": 1, "check": {"type": "regex", "pattern": "[a-m]"}},),
    }
)  # fmt: skip
COMMON: dict[str, Any] = {
    "steps": 12, "learning_rate": 0.02, "checkpoint_every": 3, "lora": Lora(rank=4, alpha=8), "load_in_4bit": True,
}  # fmt: skip
STAGES: dict[str, Stage] = {
    "sft": Sft(batch_size=4, **COMMON),
    "dpo": Dpo(method="dpo", batch_size=4, **COMMON),
    "grpo": Grpo(
        method="grpo", batch_size=8, group_size=4, max_completion_tokens=6, watch_every=3,
        tripwires=Tripwires(most_kl=1e9), **COMMON,
    ),
}  # fmt: skip


def case_of(method: str, model: Path, folder: Path) -> Case:
    prompts = [(Message(role="user", content=f"Note {i}: {'late' if i % 2 else 'bots'}"),) for i in range(8)]
    answers = ["timeout" if i % 2 else "bots" for i in range(8)]
    maker: dict[str, Any] = {
        "sft": lambda messages, right: TrainingRow(
            messages=messages, answer=right, generator="g", template="t", points=("cause",)
        ),
        "dpo": lambda messages, right: PreferencePair(
            messages=messages, chosen=right, rejected="no", source="generator", points=(), rubric=content_digest(RUBRIC)
        ),
        "grpo": lambda messages, right: Prompt(
            messages=messages, answer=right, generator="g", template="t", points=("letter",), expected={},
            rubric=content_digest(RUBRIC),
        ),
    }  # fmt: skip
    folder.mkdir()
    write_rows(folder / "rows.jsonl", [maker[method](*both) for both in zip(prompts, answers, strict=True)])
    rubric = RUBRIC if method == "grpo" else None
    return Case(model, folder / "rows.jsonl", STAGES[method], rubric=rubric)


@pytest.fixture(scope="module", params=["sft", "dpo", "grpo"])
def case(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(request.param, tiny_model, tmp_path_factory.mktemp("rows") / request.param)


@pytest.fixture(scope="module")
def trained(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainOutcome, list[Heartbeat]]:
    beats: list[Heartbeat] = []
    return train(tmp_path_factory.mktemp("trained") / "job", case, Thread(), beats.append), beats


@quantises
def test_an_adapter_of_a_base_in_4_bits_is_one_of_the_base_as_pinned(
    case: Case, trained: tuple[TrainOutcome, list[Heartbeat]]
) -> None:
    outcome, beats = trained
    require_fit(case.model, outcome.adapter)
    weights = load_file(outcome.adapter / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name), "it learned"
    assert {"bitsandbytes", "trl"} <= outcome.versions.keys()
    if case.training.method != "grpo":
        assert beats[-1].loss < beats[0].loss


@quantises
def test_a_base_in_4_bits_takes_less_memory_and_multiplies_in_full(case: Case) -> None:
    (small, _), (whole, _) = (
        load(case.model, case.training.model_copy(update={"load_in_4bit": in_4bit}), None) for in_4bit in (True, False)
    )
    assert (is_4bit(small), is_4bit(whole), computes_in(small)) == (True, False, computes_in(whole))
    layers = "model.layers.0.mlp.up_proj"
    four, full = (
        model.get_submodule(f"base_model.model.{layers}.base_layer" if is_4bit(model) else layers).weight
        for model in (small, whole)
    )
    assert four.dtype == torch.uint8
    assert four.numel() * 8 == full.numel() * full.element_size(), "half a byte a weight, where four were"
    assert {p.dtype for p in small.parameters() if p.dtype != torch.uint8} == {torch.float32}


@quantises
def test_one_that_goes_on_after_a_stop_ends_in_the_same_adapter(
    case: Case, trained: tuple[TrainOutcome, list[Heartbeat]], tmp_path: Path
) -> None:
    """Also where activations are not kept."""

    def interrupt(beat: Heartbeat) -> None:
        if beat.step >= 4:
            raise KeyboardInterrupt

    again = case.settings(gradient_checkpointing=True)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "job", again, Thread(), interrupt)
    outcome = train(tmp_path / "job", again, Thread(), lambda beat: None)
    assert same_weights(outcome.adapter, trained[0].adapter)


@quantises
def test_a_killed_worker_with_a_base_in_4_bits_is_started_again(tiny_model: Path, tmp_path: Path) -> None:
    watched = Watched(stops_after=4)

    def progress(beat: Heartbeat) -> None:
        if beat.step >= 4 and len(watched.started) == 1:
            os.kill(watched.pids[0], signal.SIGKILL)

    longer = case_of("sft", tiny_model, tmp_path / "rows").settings(steps=40)
    outcome = train(tmp_path / "job", longer, watched, progress)
    assert (outcome.steps, [recovery.failure for recovery in outcome.recoveries]) == (40, ["killed"])


@quantises
def test_a_parents_adapter_goes_on_unrounded(
    case: Case, trained: tuple[TrainOutcome, list[Heartbeat]], tmp_path: Path
) -> None:
    """With a step that changes nothing, what comes out is what went in, to the last bit."""
    still = replace(
        case.settings(steps=1, learning_rate=1e-30, schedule="constant"),
        parent=sealed(trained[0].adapter, tmp_path / "parent"),
    )
    outcome = train(tmp_path / "job", still, Thread(), lambda beat: None)
    assert same_weights(outcome.adapter, trained[0].adapter)


def test_where_the_library_is_missing_the_error_names_the_extra(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    executor = Thread()
    with pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", case_of("sft", tiny_model, tmp_path / "rows"), executor, lambda beat: None)
    assert caught.value.code == "training-host-unfit"
    assert "modelsmith[qlora]" in caught.value.message
    assert executor.started == 1


@quantises
def test_where_the_machine_cannot_quantise_the_error_says_so(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no backend")

    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", none)
    with pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", case_of("sft", tiny_model, tmp_path / "rows"), Thread(), lambda beat: None)
    assert caught.value.code == "training-host-unfit"
    assert "no backend" in caught.value.message


def test_a_worker_finds_the_library_only_where_its_job_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, Any] = {"scipy": sys}
    monkeypatch.setattr(worker, "sys", SimpleNamespace(modules=modules))
    worker.leave_out_unused(Sft(load_in_4bit=True))
    assert (QUANTISES not in modules, modules["scipy"], modules["sklearn"]) == (True, sys, None), "what is there stays"
    worker.leave_out_unused(Sft())
    assert modules[QUANTISES] is None


def test_answers_of_a_server_are_none_of_a_base_in_4_bits() -> None:
    with pytest.raises(ValueError, match="a vLLM server answers with the whole base model"):
        Grpo(method="grpo", sampler="vllm", load_in_4bit=True)


def test_a_job_without_it_is_the_job_that_it_was_and_with_it_another(tiny_model: Path) -> None:
    digest = "sha256:" + "0" * 64
    plain, small = (
        TrainJob(base=digest, parent=None, rows=digest, system="", training=Sft(load_in_4bit=in_4bit))
        for in_4bit in (False, True)
    )
    assert "load_in_4bit" not in plain.training.model_dump()
    assert plain.identity() != small.identity()
