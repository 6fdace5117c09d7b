"""One-off conversion of a GGUF file into a folder of safetensors, tokenizer and chat template.

Weights are kept in float32, exactly as the GGUF file dequantises (bfloat16 would round them), and load by memory map.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.substrates.verified import forget, holds

MARKER = "COMPLETE.json"
"""Listing of file name to size and digest, written last: a folder without it is not used."""


def converted(gguf: Path, digest: str, cache: Path, memory: Path | None = None) -> Path:
    """Folder ``<cache>/<digest hex>`` with the converted model; converts when it is not there yet, or changed.

    ``memory`` is a file of the caller's that says which files were hashed before (see `verified.holds`). Two processes
    may ask at once: one converts, the other waits. The folder appears whole or not at all. Of what lies beside the file
    nothing is read, as the digest does not speak of it: transformers would take words of the tokenizer from there, and,
    where an adapter's configuration lies there, another file altogether.

    Raises:
        InfrastructureFailure: ``base-model-conversion``, or ``extra-missing`` without the training libraries.
    """
    target = cache / digest.removeprefix("sha256:")
    if is_converted(target, memory):
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if is_converted(target, memory):
            return target
        forget(memory, target)
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".convert-") as scratch:
            alone, folder = Path(scratch) / "alone", Path(scratch) / "model"
            alone.mkdir()
            (alone / gguf.name).symlink_to(gguf.absolute())
            _convert(alone / gguf.name, folder)
            listing = {p.name: [p.stat().st_size, file_digest(p)] for p in sorted(folder.iterdir())}
            (folder / MARKER).write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
            folder.rename(target)
        is_converted(target, memory)
    return target


def is_converted(folder: Path, memory: Path | None = None) -> bool:
    """Whether the folder holds the files that its marker lists, byte for byte, and no other; see `verified.holds`."""
    return holds(folder, MARKER, memory)


def _convert(gguf: Path, folder: Path) -> None:
    try:
        from modelsmith.substrates.quiet import quiet

        quiet()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise InfrastructureFailure(
            "extra-missing",
            "Converting a GGUF model needs the training extra.",
            "Install it with `pip install 'modelsmith[train]'`.",
        ) from error
    try:
        with _parsed_once():
            source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **source)
            quantised = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **source)
        config = quantised.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        model.load_state_dict(quantised.state_dict(), assign=True)
        model.tie_weights()
        model.generation_config = quantised.generation_config
        folder.mkdir(parents=True)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:
        raise InfrastructureFailure(
            "base-model-conversion",
            f"{gguf.name} could not be converted to safetensors.",
            "Check the free disk space and memory, then try again.",
            reason=f"{type(error).__name__}: {error}",
        ) from error


@contextmanager
def _parsed_once() -> Iterator[None]:
    """While this lasts, what Transformers asks of the file again and again is worked out once.

    It parses the file for tokenizer, config and weights, and makes the table of tensor names for every module of the
    model: more than half of a conversion.
    """
    import gguf
    import numpy

    before = gguf.GGUFReader, gguf.get_tensor_name_map

    class PlainReader(gguf.GGUFReader):  # type: ignore[misc]
        """Its memory map as a plain array: each slice of a map costs ten times one of an array."""

        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = mapped.view(numpy.ndarray)

    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(PlainReader), functools.cache(before[1])
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = before
