"""The model that a stage trains: the base as it is pinned, or in 4 bits, with an adapter. Heavy.

In 4 bits it is QLoRA (Dettmers et al., 2023): the base's linear layers lie in memory as NF4, their scales quantised
again, and are made whole for each product. bitsandbytes does that, and is imported by a stage that asks for it alone.
What is trained is an adapter like any other: evals answer with the base model as it is pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.training import Lora, Settings
from modelsmith.substrates.adapter import load_adapter
from modelsmith.substrates.attention import require_attention
from modelsmith.training.failures import HostUnfitError, ModelUnfitError, RowTooLongError
from modelsmith.training.job import QUANTISES

_4BIT = "is_loaded_in_4bit"
"""What transformers sets on a model whose linear layers it has quantised, and other libraries read."""


def load(base: Path, training: Settings, parent: Path | None) -> tuple[Any, LoraConfig | None]:
    """The base model in the memory of the device that trains it, and the new adapter that it is to get.

    None where it has its adapter already: the parent's, or a new one where the base is quantised, since only PEFT knows
    how to lay one over such layers.

    Raises:
        HostUnfitError: it is to be quantised, and this machine cannot do that.
        ModelUnfitError: it is no model of attention layers.
    """
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    options: dict[str, Any] = {
        "dtype": dtype, "local_files_only": True, "use_safetensors": True, "trust_remote_code": False
    }  # fmt: skip
    if training.load_in_4bit:
        require_4bit(torch.device("cuda" if cuda else "cpu"))
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(str(base), **options)
    try:
        require_attention(model)
    except InvalidInput as error:
        raise ModelUnfitError(error.message) from error
    if training.load_in_4bit:
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                # else an answer on such a processor comes from weights laid out anew, with other roundings than those
                # that are trained, and not at all where a layer is narrower than a block
                module.support_avx512bf16_for_cpu = False
        # norms, embeddings and head in float32; activations are kept or not by the trainer's own settings
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if parent:
        return load_adapter(model, parent, trainable=True), None
    adapter = _lora(training.lora, model)
    if not training.load_in_4bit:
        return model, adapter
    set_seed(training.seed)  # as a trainer does before it makes one
    return get_peft_model(model, adapter), None


def require_context(model: Any, lengths: Sequence[int]) -> None:
    """Refuse rows that are longer than what the model was made for, with these lengths in tokens, answers included.

    It would be trained at places that it never learned, or not at all, and no eval asks it anything as long.

    Raises:
        RowTooLongError: naming the first such row.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return
    for number, length in enumerate(lengths, start=1):
        if length > limit:
            raise RowTooLongError(f"Line {number} of rows.jsonl has {length} tokens; the model takes {limit}.")


def require_4bit(device: torch.device) -> None:
    """Quantise a block on the device, and make it whole again.

    Raises:
        HostUnfitError: the library is not there, or cannot do that on this machine.
    """
    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise HostUnfitError(
            f"load_in_4bit needs {QUANTISES}, which is not installed: pip install 'modelsmith[qlora]'."
        ) from error
    try:
        block = torch.linspace(-1, 1, 64, device=device)
        restored = functional.dequantize_4bit(*functional.quantize_4bit(block, quant_type="nf4"))
        sound = bool(((restored - block).abs() < 0.2).all())
        reason = "a block of weights came back as another"
    except Exception as error:
        sound, reason = False, f"{type(error).__name__}: {error}"[:300]
    if not sound:
        raise HostUnfitError(
            f"{QUANTISES} {version(QUANTISES)} cannot quantise on this machine's {device.type}: {reason}."
        )


def is_4bit(model: Any) -> bool:
    """Whether its linear layers lie in memory as 4 bits a weight, also within `adapter_as_it_is`."""
    return hasattr(getattr(model.config, "quantization_config", None), "bnb_4bit_compute_dtype")


def computes_in(model: Any) -> torch.dtype:
    """Type in which its linear layers multiply; that of the weights, unless these are quantised."""
    dtype: torch.dtype = next(model.parameters()).dtype
    return model.config.quantization_config.bnb_4bit_compute_dtype if is_4bit(model) else dtype


@contextmanager
def adapter_as_it_is(model: Any) -> Iterator[None]:
    """While TRL makes its trainer: it would round the adapter of a quantised model to bfloat16, a parent's too."""
    if not is_4bit(model):
        yield
        return
    base = model.get_base_model()
    setattr(base, _4BIT, False)
    try:
        yield
    finally:
        setattr(base, _4BIT, True)


def _lora(lora: Lora, model: Any) -> LoraConfig:
    layers = model.config.num_hidden_layers
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(linear),
        layers_to_transform=list(range(max(0, layers - lora.top_layers), layers)) if lora.top_layers else None,
        task_type="CAUSAL_LM",
    )
