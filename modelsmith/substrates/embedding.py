"""Vectors of texts from a transformer in this process. Heavy: import it only inside an operation.

Texts of the same number of tokens are computed together, so no padding exists that could enter a vector. What is longer
than the model reads at once is read in windows that overlap by a quarter, and the text's vector is the mean of theirs,
weighted by their tokens: nothing of a text goes unread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from modelsmith.substrates.quiet import quiet

quiet()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModel, AutoTokenizer  # noqa: E402

from modelsmith.schema.embedding import EmbeddingModel  # noqa: E402
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError  # noqa: E402
from modelsmith.schema.source import Chat  # noqa: E402
from modelsmith.substrates.embedding_folder import way_of  # noqa: E402
from modelsmith.substrates.local import ALL_THREADS, computing_on  # noqa: E402
from modelsmith.substrates.local_facts import local_facts  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENS_AT_ONCE: Final = {"cpu": 4_096, "cuda": 131_072}
_UNUSED: Final = ("pooler.",)
"""Weights that a transformer may lack: they stand behind its tokens, where nothing is read."""


class LocalEmbedder:
    """A folder of safetensors as an `Embedder`, in float32 everywhere, so that machines agree.

    Raises:
        InvalidInput: as `way_of`; ``embedding-format`` when weights are missing, which transformers would make up.
        InfrastructureFailure: ``model-load`` or ``out-of-memory``.
    """

    def __init__(self, model: EmbeddingModel, folder: Path, threads: int | None = None) -> None:
        self.model = model
        self._way = way_of(folder, model)
        self._threads = threads or ALL_THREADS
        self._device = local_facts(Chat()).device
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(self._way.weights), local_files_only=True, trust_remote_code=False
            )
            loaded, loading_info = AutoModel.from_pretrained(
                str(self._way.weights), dtype=torch.float32, local_files_only=True, use_safetensors=True,
                output_loading_info=True, trust_remote_code=False,
            )  # fmt: skip
            missing = sorted(name for name in loading_info["missing_keys"] if not name.startswith(_UNUSED))
            if missing or loading_info["mismatched_keys"]:
                raise _unlike(missing)
            self._model: Any = loaded.eval().to(self._device)
        except ModelsmithError:
            raise
        except Exception as error:
            raise _failure("model-load", "The embedding model could not be loaded.", error) from error

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder`.

        Raises:
            InfrastructureFailure: ``embedding-failed`` or ``out-of-memory``.
        """
        windows, owner = self._windows(texts)
        vectors = np.zeros((len(texts), self._model.config.hidden_size), np.float64)
        by_length: dict[int, list[int]] = {}
        for place, ids in enumerate(windows):
            by_length.setdefault(len(ids), []).append(place)
        try:
            for length, places in sorted(by_length.items(), reverse=True):
                size = max(1, TOKENS_AT_ONCE[self._device] // length)
                for start in range(0, len(places), size):
                    some = places[start : start + size]
                    pooled = self._pooled([windows[place] for place in some])
                    if not np.isfinite(pooled).all():
                        raise _failure(
                            "embedding-failed", "The embedding model gave no numbers.", ValueError("not finite")
                        )
                    np.add.at(vectors, [owner[place] for place in some], length * _unit(pooled))
        except (MemoryError, RuntimeError) as error:
            raise _failure("embedding-failed", "The embedding model stopped.", error) from error
        return _unit(vectors).astype(np.float32)

    def _windows(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """The tokens of every window that has some, and the text that it belongs to."""
        windows: list[list[int]] = []
        owner: list[int] = []
        for number, text in enumerate(texts):
            full_text = self._way.prefix + (text.lower() if self._way.lower else text)
            most = self._way.window
            token_ids = self._tokenizer(
                full_text.encode("utf-8", "replace").decode(),
                truncation=True, max_length=most, stride=most // 4, return_overflowing_tokens=True,
            )["input_ids"]  # fmt: skip
            some = [ids for ids in token_ids if ids]
            windows += some
            owner += [number] * len(some)
        return windows, owner

    def _pooled(self, ids: list[list[int]]) -> NDArray[np.float64]:
        with torch.inference_mode(), computing_on(self._threads):
            tokens = torch.tensor(ids, device=self._device)
            states = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
            match self._way.pooling:
                case "mean":
                    pooled = states.mean(dim=1)
                case "cls":
                    pooled = states[:, 0]
                case "last":
                    pooled = states[:, -1]
            return cast("NDArray[np.float64]", pooled.double().cpu().numpy())


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return cast("NDArray[np.float64]", unit)


def _unlike(missing: list[str]) -> InvalidInput:
    return InvalidInput(
        "embedding-format",
        f"The embedding model's weights lack what its configuration asks for: {', '.join(missing[:5]) or 'shapes'}.",
        "Take the folder as its makers publish it; weights that are made up embed nothing.",
        names=missing[:5],
    )


def _failure(code: str, message: str, error: Exception) -> ModelsmithError:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return InfrastructureFailure(
            "out-of-memory", "The embedding model does not fit into memory.", "Close other programs."
        )
    return InfrastructureFailure(
        code, message, "Check the folder that embedding.uri of policy.yaml names.",
        reason=f"{type(error).__name__}: {str(error)[:300]}",
    )  # fmt: skip
