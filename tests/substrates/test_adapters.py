"""An adapter answers over the base model that it was made for, all of it, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from modelsmith.schema.errors import IntegrityFailure
from modelsmith.substrates.adapter import WEIGHTS, load_adapter, require_fit
from modelsmith.substrates.local import TransformersSubstrate

Rename = Callable[[str], str | None]


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    bare = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = get_peft_model(
        bare, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=3.0)
    model.save_pretrained(folder)
    return folder


def variant(adapter: Path, folder: Path, rename: Rename, rank: int = 2) -> Path:
    shutil.copytree(adapter, folder)
    tensors = {new: value for old, value in load_file(folder / WEIGHTS).items() if (new := rename(old))}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text()) | {"r": rank}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


MISFITS: dict[str, tuple[Rename, int, str]] = {
    "keys of another naming": (
        lambda key: key.replace("base_model.model.model", "base_model.model"),
        2,
        "belong to no",
    ),
    "layers of a larger model": (lambda key: key.replace("layers.1", "layers.7"), 2, "belong to no module"),
    "half of the layers": (lambda key: key if "layers.0" in key else None, 2, "are missing"),
    "a rank that the configuration does not say": (lambda key: key, 4, "another shape"),
}


@pytest.mark.parametrize(("rename", "rank", "problem"), MISFITS.values(), ids=MISFITS)
def test_an_adapter_that_fits_in_part_is_refused_by_every_engine(
    tiny_model: Path, adapter: Path, tmp_path: Path, rename: Rename, rank: int, problem: str
) -> None:
    bad = variant(adapter, tmp_path / "bad", rename, rank)
    for load in (
        lambda: TransformersSubstrate(tiny_model, bad, threads=1),
        lambda: load_adapter(AutoModelForCausalLM.from_pretrained(tiny_model), bad, trainable=True),
        lambda: require_fit(tiny_model, bad),
    ):
        with pytest.raises(IntegrityFailure, match=problem) as refused:
            load()
        assert refused.value.code == "adapter-misfit"


def test_an_adapter_that_fits_changes_what_the_model_is(tiny_model: Path, adapter: Path) -> None:
    require_fit(tiny_model, adapter)
    trained = load_adapter(AutoModelForCausalLM.from_pretrained(tiny_model), adapter, trainable=True)
    assert all(weight.requires_grad == ("lora_" in name) for name, weight in trained.named_parameters())
    merged = load_adapter(AutoModelForCausalLM.from_pretrained(tiny_model), adapter).merge_and_unload()
    bare = AutoModelForCausalLM.from_pretrained(tiny_model)
    different = {
        name for name, weight in bare.state_dict().items() if not torch.equal(weight, merged.state_dict()[name])
    }
    assert {name.split(".")[-2] for name in different} == {"q_proj", "v_proj"}
    assert len(different) == 4
