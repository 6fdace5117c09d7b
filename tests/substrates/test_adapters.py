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


ODD: dict[str, dict[str, object]] = {
    "a rank that takes all memory": {"r": 10**9},
    "a rank that is none": {"r": True},
    "an expression that is searched by for ever": {"target_modules": "(.*)*(.*)*(.*)*x"},
    "a name that is an expression": {"target_modules": ["q_proj", "(.*)*(.*)*x"]},
    "another one for ranks": {"rank_pattern": {"(.*)*x": 4}},
    "another one for what is left out": {"exclude_modules": "(.*)*x"},
    "the base's own weights computed anew": {"init_lora_weights": "pissa"},
    "the same by the spectrum": {"init_lora_weights": "olora"},
    "layers many times over": {"layer_replication": [[0, 2]] * 1000},
    "a module to import": {"megatron_config": {}, "megatron_core": "antigravity"},
    "a class to import": {"auto_mapping": {"base_model_class": "x", "parent_library": "antigravity"}},
    "whole layers of its own": {"modules_to_save": ["lm_head"]},
    "embeddings of its own": {"trainable_token_indices": [1, 2]},
    "biases": {"bias": "all"},
    "another computation": {"use_dora": True},
    "another scale": {"use_rslora": True},
    "another scale by names": {"alpha_pattern": {"q_proj": 1}},
    "another kind of adapter": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**9},
    "a field that nobody knows": {"kept_for_later": 1},
}


@pytest.mark.parametrize("said", ODD.values(), ids=ODD)
def test_an_adapter_that_asks_for_more_than_plain_lora_is_refused(
    tiny_model: Path, adapter: Path, tmp_path: Path, said: dict[str, object]
) -> None:
    """Weights of a host are data: nothing beside them says what is searched, computed, allocated or imported."""
    bad = variant(adapter, tmp_path / "bad", lambda key: key)
    config = json.loads((bad / "adapter_config.json").read_text()) | said
    (bad / "adapter_config.json").write_text(json.dumps(config))
    for load in (
        lambda: load_adapter(AutoModelForCausalLM.from_pretrained(tiny_model), bad),
        lambda: require_fit(tiny_model, bad),
    ):
        with pytest.raises(IntegrityFailure, match="plain LoRA") as refused:
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
