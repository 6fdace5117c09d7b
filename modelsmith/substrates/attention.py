"""Which tokens each token sees, in the form that a model takes. Heavy: imports torch.

Where rows lie in one sequence, or begin with what was computed once, we say ourselves which tokens see which. A model
takes that as it is, for every layer: one with a sliding window (Gemma, Mistral) would see beyond it, and one that adds
masks to its scores (no SDPA: gpt-oss, Gemma 2) would have nothing hidden by true and false.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, TypeAlias

import torch

from modelsmith.schema.errors import InvalidInput

Mask: TypeAlias = "torch.Tensor | dict[str, torch.Tensor]"
"""(rows, 1, tokens that look, tokens that are looked at), or one of these for each kind of layer."""
FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"


def require_attention(model: Any) -> None:
    """Refuse a model whose layers keep anything but keys and values, or that cannot be told where a token stands.

    What the state of such a layer holds runs on from row to row and through padding, so its answers and its training
    would be of other texts than ours.

    Raises:
        InvalidInput: ``base-model-kind``.
    """
    config = model.config.get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {FULL, SLIDING})
    problem = f"layers of the kind {others[0]}" if others else ""
    if not problem and getattr(model, "_is_stateful", False):
        problem = "layers with a state that runs through the text"
    if not problem and "position_ids" not in inspect.signature(model.forward).parameters:
        problem = "no way to be told where in its text a token stands"
    if problem:
        raise InvalidInput(
            "base-model-kind",
            f"The model ({config.model_type}) has {problem}; "
            "here only models of attention layers answer and are trained.",
            "Choose one such as Llama, Qwen3, Gemma 3, Mistral or SmolLM; a judge, teacher or baseline of another kind "
            "can be asked behind an endpoint.",
            model_type=str(config.model_type),
        )


def window_of(model: Any) -> int | None:
    """How many tokens, itself counted, a token of the model's sliding layers sees; None where it has no such layer."""
    config = model.config.get_text_config()
    window: int | None = getattr(config, "sliding_window", None)
    return window if SLIDING in (getattr(config, "layer_types", None) or (SLIDING,)) else None


def attending(model: Any, visible: torch.Tensor, looking: torch.Tensor, keys: torch.Tensor) -> Mask:
    """The mask of `visible`, for each kind of the model's layers.

    Args:
        model: A causal language model of transformers.
        visible: Boolean, (rows, 1, q, k): whether token q of a row sees token k.
        looking: (rows, q): where in its own text each token stands that looks.
        keys: (rows, k): the same of each token that is looked at.
    """
    window = window_of(model)
    if window is None:
        return _mask_for(model, visible)
    near = visible & (keys[:, None, None, :] > looking[:, None, :, None] - window)
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or (SLIDING,))
    if len(kinds) == 1:
        return _mask_for(model, near)
    return {FULL: _mask_for(model, visible), SLIDING: _mask_for(model, near)}


def over_padding(model: Any, filled: torch.Tensor, begin: int, places: torch.Tensor) -> Mask:
    """Tokens from column ``begin`` on see those before them and themselves, in rows with padding in their midst.

    The model itself would count padding as part of a window, so this is for windows that are shorter than a row.

    Args:
        model: As in `attending`.
        filled: (rows, columns): 1 where no padding is.
        begin: The first column that looks.
        places: (rows, columns): where in its text the token of each column stands.
    """
    columns = torch.arange(filled.shape[1], device=filled.device)
    earlier, itself = columns <= columns[begin:, None], columns == columns[begin:, None]
    visible = (filled.bool()[:, None, None, :] & earlier) | itself
    return attending(model, visible, places[:, begin:], places)


def _mask_for(model: Any, visible: torch.Tensor) -> torch.Tensor:
    if model.config.get_text_config()._attn_implementation == "sdpa":
        return visible
    dtype = model.get_input_embeddings().weight.dtype
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)
