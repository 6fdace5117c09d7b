"""Names in texts, by a token classifier of transformers in this process. Heavy: import it only inside an operation.

A text that is longer than the model reads at once is read in windows that overlap by a quarter; a word is a name where
any window says so. It is taken out whole, also where only a part of it was found: better a word too many.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from modelsmith.substrates.quiet import quiet

quiet()

import torch  # noqa: E402
from transformers import AutoModelForTokenClassification, AutoTokenizer  # noqa: E402

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError  # noqa: E402
from modelsmith.schema.naming import NameModel  # noqa: E402
from modelsmith.schema.source import Chat  # noqa: E402
from modelsmith.substrates.local import ALL_THREADS, computing_on  # noqa: E402
from modelsmith.substrates.local_facts import local_facts  # noqa: E402

LEAST: Final = 0.3
"""Probability of the named labels together from which on a token belongs to a name: less than half, since a name that
stays costs more than a word that goes."""
_LONGEST: Final = 512
"""Tokens of a window where the model names no smaller one."""
_SPARE: Final = 2
"""Positions that some models keep for themselves, as RoBERTa does."""
_ALONE: Final = r"\u3040-\u30ff\u3400-\u9fff"
"""Letters of scripts that put no blanks between words: each is a word of its own."""
_WORD: Final = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+(?:['\u2019-][^\W{_ALONE}]+)*")
_BETWEEN: Final = re.compile(r"\.? ?")
"""What may stand between two words of one name."""


class NameFinder:
    """A folder of safetensors that labels tokens, in float32.

    Raises:
        InvalidInput: ``names-format`` where the model has none of the labels, no weights for them, or a tokenizer
            that does not say where its tokens stand.
        InfrastructureFailure: ``names-failed`` when it cannot be loaded.
    """

    def __init__(self, model: NameModel, folder: Path) -> None:
        self._device = local_facts(Chat()).device
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            loaded, loading_info = AutoModelForTokenClassification.from_pretrained(
                str(folder), dtype=torch.float32, local_files_only=True, use_safetensors=True,
                output_loading_info=True, trust_remote_code=False,
            )  # fmt: skip
        except Exception as error:
            raise _failed(error) from error
        kinds = {number: re.sub("^[BIESLU]-", "", str(kind)) for number, kind in loaded.config.id2label.items()}
        self._named = [number for number, kind in kinds.items() if kind in model.labels]
        labels = sorted({*kinds.values()})
        if loading_info["missing_keys"] or loading_info["mismatched_keys"]:
            raise _refused(
                "its weights lack what its configuration asks for: it was not trained to label words", labels
            )
        if not self._named:
            raise _refused(f"its labels are {', '.join(labels)[:200]}, none of {', '.join(model.labels)}", labels)
        if not self._tokenizer.is_fast:
            raise _refused("its tokenizer does not say where its tokens stand", labels)
        self._model: Any = loaded.eval().to(self._device)
        most = getattr(loaded.config, "max_position_embeddings", None) or _LONGEST
        self._window = min(_LONGEST, most - _SPARE)

    def __call__(self, text: str) -> list[tuple[int, int]]:
        """Where names stand, from and to, in order and apart.

        Raises:
            InfrastructureFailure: ``names-failed``.
        """
        if not text.strip():
            return []
        try:
            marked = self._marked(text)
        except (MemoryError, RuntimeError) as error:
            raise _failed(error) from error
        spans: list[tuple[int, int]] = []
        for word in _WORD.finditer(text):
            if any(marked[word.start() : word.end()]):
                begins = word.start()
                if spans and _BETWEEN.fullmatch(text, spans[-1][1], begins):
                    begins = spans.pop()[0]
                spans.append((begins, word.end()))
        return spans

    def _marked(self, text: str) -> bytearray:
        """For each character whether a token of a name covers it."""
        encoding = self._tokenizer(
            text, truncation=True, max_length=self._window, stride=self._window // 4,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        marked = bytearray(len(text))
        for ids, places in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
            if not ids:
                continue
            with torch.inference_mode(), computing_on(ALL_THREADS):
                tokens = torch.tensor([ids], device=self._device)
                logits = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0].float()
                chances = logits.softmax(-1)[:, self._named].sum(-1).cpu()
            if not chances.isfinite().all():
                raise RuntimeError("not finite")
            for (start, end), chance in zip(places, chances.tolist(), strict=True):
                if chance >= LEAST:
                    marked[start:end] = b"\1" * (end - start)
        return marked


def _refused(why: str, labels: Sequence[str]) -> InvalidInput:
    return InvalidInput(
        "names-format",
        f"The model that policy names to find names cannot be used: {why}.",
        "Take a token classifier as its makers publish it, and write its own labels under private.names.labels.",
        labels=[*labels][:50],
    )


def _failed(error: Exception) -> ModelsmithError:
    return InfrastructureFailure(
        "names-failed",
        "The model that finds names stopped, or could not be loaded. Nothing was written.",
        "Check the folder that private.names.uri of policy.yaml names, and the memory of the machine.",
        reason=f"{type(error).__name__}: {str(error)[:300]}",
    )
