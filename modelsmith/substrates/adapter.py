"""Adapters onto base models: all of an adapter, or nothing. PEFT passes over in silence what fits no module.

The same for weights that stand alone: transformers fills in at random what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelsmith.schema.errors import IntegrityFailure, InvalidInput

WEIGHTS = "adapter_model.safetensors"
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
        bare = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(model_folder), local_files_only=True))
        adapted = _prepared(bare, adapter, trainable=False)
    with safe_open(adapter / WEIGHTS, framework="pt") as tensors:
        found = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    _require_fit(_shapes(adapted), found)


def require_whole(told: Mapping[str, Any]) -> None:
    """Refuse weights that are not all of a model's and no other's, by what transformers tells of their loading.

    Raises:
        IntegrityFailure: ``weights-misfit``.
    """
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, told.get(kind) or ())):
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

    config = PeftConfig.from_pretrained(str(adapter))
    config.inference_mode = not trainable
    try:
        return PeftModel(model, config)
    except ValueError as error:
        raise _misfit(f"its configuration names modules that the base model does not have ({error})"[:300]) from error


def _shapes(adapted: Any) -> dict[str, tuple[int, ...]]:
    """Of the adapter's own tensors; left to guess about embeddings, PEFT looks for a folder named like the base."""
    from peft import get_peft_model_state_dict

    return {
        name: tuple(tensor.shape)
        for name, tensor in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }


def _require_fit(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    shapes = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    for names, problem in (
        (sorted(found.keys() - wanted.keys()), "belong to no module of the base model"),
        (sorted(wanted.keys() - found.keys()), "are missing"),
        (shapes, "have another shape than base model and rank ask for"),
    ):
        if names:
            more = ", ..." if len(names) > _SHOWN else ""
            raise _misfit(f"{len(names)} of its tensors {problem}: {', '.join(names[:_SHOWN])}{more}")


def _misfit(problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "adapter-misfit",
        f"The adapter does not fit its base model: {problem}.",
        "Restore the artifact, or train it again; what fits only in part answers as neither model would.",
        problem=problem,
    )
