"""Adapters onto base models: all of an adapter, or nothing. PEFT passes over in silence what fits no module.

The same for weights that stand alone: transformers fills in at random what is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelsmith.schema.errors import IntegrityFailure, InvalidInput

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MOST_RANK = 512
"""Largest rank that a cluster file may ask for."""
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64}){0,7}", re.ASCII)
_SHOWN = 3


def load_adapter(model: Any, folder: Path, *, trainable: bool = False) -> Any:
    """The model with the adapter of this folder on it, not yet merged.

    Raises:
        IntegrityFailure: ``adapter-misfit`` when a tensor belongs to no module, is missing, or has another shape.
        InvalidInput: ``adapter-missing``.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    if not (folder / WEIGHTS).is_file():
        raise InvalidInput(
            "adapter-missing",
            "The folder holds no LoRA adapter in safetensors.",
            "Restore the artifact from the store, or train again.",
        )
    adapted = _prepared(model, folder, trainable)
    tensors = load_file(folder / WEIGHTS)
    _require_fit(_shapes(adapted), {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    set_peft_model_state_dict(adapted, tensors)
    return adapted


def require_fit(model_folder: Path, adapter: Path) -> None:
    """`load_adapter` without weights: whether the adapter fits the model in this folder, all of it.

    Raises:
        IntegrityFailure: ``adapter-misfit``.
    """
    from modelsmith.substrates.quiet import quiet

    quiet()
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        config = AutoConfig.from_pretrained(str(model_folder), local_files_only=True, trust_remote_code=False)
        bare = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        adapted = _prepared(bare, adapter, trainable=False)
    with safe_open(adapter / WEIGHTS, framework="pt") as tensors:
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    _require_fit(_shapes(adapted), shapes)


def require_whole(loading_info: Mapping[str, Any]) -> None:
    """Refuse weights that are not all of a model's and no other's, by what transformers tells of their loading.

    Raises:
        IntegrityFailure: ``weights-misfit``.
    """
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, loading_info.get(kind) or ())):
            raise IntegrityFailure(
                "weights-misfit",
                f"The weights are not those of their own configuration: {kind.replace('_', ' ')} "
                f"{', '.join(names[:_SHOWN])}.",
                "Make the export again; a model that is filled up at random answers nothing that was tested.",
                names=names[:_SHOWN],
            )


def _prepared(model: Any, adapter: Path, trainable: bool) -> Any:
    """The model with empty adapter modules, as the adapter's configuration asks for."""
    from peft import PeftConfig, PeftModel

    require_plain(_json_or_none(adapter / CONFIG))
    config = PeftConfig.from_pretrained(str(adapter))
    config.inference_mode = not trainable
    try:
        return PeftModel(model, config)
    except ValueError as error:
        raise _misfit(f"its configuration names modules that the base model does not have ({error})"[:300]) from error


def _json_or_none(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def require_plain(config: Any) -> None:
    """Refuse an adapter's configuration that says more than which layers get two matrices of which rank.

    It comes with the weights, perhaps from another host, and PEFT does what it says: compute the base's weights anew
    (``init_lora_weights: pissa``), search by any regular expression, allocate any rank, repeat layers, import modules.

    Raises:
        IntegrityFailure: ``adapter-misfit``.
    """
    from peft import LoraConfig

    if not isinstance(config, dict):
        raise _misfit(f"{CONFIG} cannot be read")
    plain = LoraConfig().to_dict()
    odd = [name for name, value in config.items() if name not in _FREE and not _is_plain(value, plain.get(name))]
    odd += [name for name, is_sound in _FREE.items() if name in config and not is_sound(config[name])]
    odd += [name for name in ("r", "target_modules") if name not in config]
    if odd:
        raise _misfit(f"its configuration asks for something else than plain LoRA: {', '.join(sorted(odd)[:_SHOWN])}")


def _is_plain(value: Any, plain: Any) -> bool:
    return type(value) is type(plain) and bool(value == plain)


def _is_number(value: Any, most: float) -> bool:
    return type(value) in (int, float) and 0 <= value <= most


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and _NAME.fullmatch(name) for name in value)


def _are_layers(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(type(layer) is int and layer >= 0 for layer in value))


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, str)


_FREE: Mapping[str, Callable[[Any], bool]] = {
    "r": lambda value: type(value) is int and 1 <= value <= MOST_RANK,
    "lora_alpha": lambda value: _is_number(value, 1e9),
    "lora_dropout": lambda value: _is_number(value, 1),
    "target_modules": _are_names,
    "layers_to_transform": _are_layers,
    "inference_mode": lambda value: isinstance(value, bool),
    "peft_type": lambda value: value == "LORA",
    "task_type": lambda value: value in (None, "CAUSAL_LM"),
    "base_model_name_or_path": _is_word,
    "peft_version": _is_word,
}
"""What a training sets, each with the test that it is of a training's kind; everything else is as PEFT has it."""


def _shapes(adapted: Any) -> dict[str, tuple[int, ...]]:
    """Of the adapter's own tensors; left to guess about embeddings, PEFT looks for a folder named like the base."""
    from peft import get_peft_model_state_dict

    return {
        name: tuple(tensor.shape)
        for name, tensor in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }


def _require_fit(expected: dict[str, tuple[int, ...]], actual: dict[str, tuple[int, ...]]) -> None:
    shapes = sorted(name for name in expected.keys() & actual.keys() if expected[name] != actual[name])
    for names, problem in (
        (sorted(actual.keys() - expected.keys()), "belong to no module of the base model"),
        (sorted(expected.keys() - actual.keys()), "are missing"),
        (shapes, "have another shape than base model and rank ask for"),
    ):
        if names:
            ending = ", ..." if len(names) > _SHOWN else ""
            raise _misfit(f"{len(names)} of its tensors {problem}: {', '.join(names[:_SHOWN])}{ending}")


def _misfit(problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "adapter-misfit",
        f"The adapter does not fit its base model: {problem}.",
        "Restore the artifact, or train it again; what fits only in part answers as neither model would.",
        problem=problem,
    )
