"""A base model and its adapter as one model on disk: safetensors, configuration, tokenizer and chat template."""

from __future__ import annotations

import json
from pathlib import Path

from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError
from modelsmith.schema.promotion import ExportDtype
from modelsmith.substrates.adapter import load_adapter

_LARGEST_FILE = "4GB"
_PLACES = ("_name_or_path", "name_or_path")
"""Where libraries write the folder that a model or tokenizer came from."""


def write_merged(base: Path, adapter: Path, target: Path, dtype: ExportDtype) -> None:
    """Merge in float32 and write in ``dtype``; with float32 the weights are those that the adapter answers with here.

    On the same machine with the same libraries the same bytes come out. Nothing of where the files lay is written.

    Args:
        base: Folder of the base model's safetensors, checked by the caller.
        adapter: Folder of the sealed adapter, checked by the caller.
        target: Folder to make; it must not exist.
        dtype: Of the written weights: bfloat16 takes half the room and rounds each weight to 8 significant bits.

    Raises:
        IntegrityFailure: ``adapter-misfit`` (see `load_adapter`).
        InfrastructureFailure: ``extra-missing``; ``merge-failed`` when memory or disk give out.
    """
    try:
        from modelsmith.substrates.quiet import quiet

        quiet()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise InfrastructureFailure(
            "extra-missing", "Merging needs the training extra.", "Install it with `pip install 'modelsmith[train]'`."
        ) from error
    try:
        plain = AutoModelForCausalLM.from_pretrained(
            str(base), dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        merged = load_adapter(plain, adapter).merge_and_unload(safe_merge=True).to(getattr(torch, dtype))
        merged.save_pretrained(target, max_shard_size=_LARGEST_FILE)
        AutoTokenizer.from_pretrained(str(base), local_files_only=True, trust_remote_code=False).save_pretrained(target)
        for path in sorted(target.glob("*config.json")):
            _scrub(path)
    except ModelsmithError:
        raise
    except Exception as error:
        raise InfrastructureFailure(
            "merge-failed",
            "Base model and adapter could not be merged.",
            "Check the free memory and disk space, then run the same command again.",
            reason=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error


def _scrub(path: Path) -> None:
    """Take out the folder of this machine, and put the rest in order."""
    config = json.loads(path.read_bytes())
    remaining = {name: value for name, value in config.items() if name not in _PLACES}
    path.write_text(json.dumps(remaining, indent=2, sort_keys=True) + "\n", encoding="utf-8")
