"""Weights that stand alone: merged they answer as the adapter does, and what is not whole answers nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import write_gguf
from transformers import AutoModelForCausalLM

from modelsmith.artifacts.gguf_header import require_sound
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.substrates.gguf import converted
from modelsmith.substrates.local import TransformersSubstrate
from modelsmith.substrates.merging import write_merged
from modelsmith.substrates.port import Prompt

PROMPTS = [Prompt(text, (Message(role="user", content=text),)) for text in ("Bid?", "No bid at all.")]


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    bare = AutoModelForCausalLM.from_pretrained(tiny_model)
    settings = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(bare, settings)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=3.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def merged(tiny_model: Path, adapter: Path, tmp_path: Path) -> Path:
    write_merged(tiny_model, adapter, tmp_path / "merged", "float32")
    return tmp_path / "merged"


def answers(folder: Path, adapter: Path | None = None, *, whole: bool = False) -> dict[str, str]:
    substrate = TransformersSubstrate(folder, adapter, threads=1, whole=whole)
    completions = substrate.complete(PROMPTS, "You bid.", Sampling(max_new_tokens=12))
    return {completion.key: completion.text for completion in completions}


def test_merged_weights_answer_as_the_adapter_does(tiny_model: Path, adapter: Path, merged: Path) -> None:
    alone = answers(merged, whole=True)
    assert alone == answers(tiny_model, adapter)
    assert alone != answers(tiny_model)


def test_merging_again_writes_the_same_bytes_and_no_path_of_this_machine(
    tiny_model: Path, adapter: Path, merged: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    write_merged(elsewhere, adapter, tmp_path / "again", "float32")
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in (merged, tmp_path / "again"))
    assert first == second
    for place in (tiny_model, elsewhere, adapter, tmp_path):
        assert not any(str(place).encode() in data for data in first.values())


def test_bfloat16_is_half_as_large_and_other_weights(tiny_model: Path, adapter: Path, merged: Path, tmp_path) -> None:
    write_merged(tiny_model, adapter, tmp_path / "half", "bfloat16")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "half", merged)]
    assert sizes[0] < 0.6 * sizes[1]
    answers(tmp_path / "half", whole=True)


@pytest.mark.parametrize("change", ["less", "more"])
def test_weights_that_are_not_a_whole_model_s_are_refused(merged: Path, change: str) -> None:
    tensors = load_file(merged / "model.safetensors")
    if change == "less":
        del tensors["model.layers.1.mlp.up_proj.weight"]
    else:
        tensors["model.layers.7.mlp.up_proj.weight"] = torch.zeros(64, 32)
    save_file(tensors, merged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityFailure) as refused:
        answers(merged, whole=True)
    assert refused.value.code == "weights-misfit"


def test_a_gguf_file_as_other_tools_write_it_is_accepted_and_answers(merged: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(merged, path)
    assert require_sound(path).architecture == "llama"
    folder = converted(path, file_digest(path), tmp_path / "models")
    assert answers(folder, whole=True) == answers(merged, whole=True)
