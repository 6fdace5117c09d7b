"""Vectors that were computed before, by what they are of: ``cache/vectors.db``, where no commit reaches.

A batch is embedded when the firewall judges it and again when its certificate is made; a batch of thousands takes
minutes. What is kept is never the truth (`substrates.kept_bytes`): `verify --full` computes anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelsmith.schema.embedding import EmbeddingModel
from modelsmith.substrates.embedder import Embedder
from modelsmith.substrates.kept_bytes import KeptBytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE: Final = "vectors.db"


class KeptVectors:
    """An `Embedder` that asks another, opened at the first text that is not known yet. Each text is asked once."""

    def __init__(self, model: EmbeddingModel, open_: Callable[[], Embedder], folder: Path | None) -> None:
        """``folder``: where vectors are kept; None to keep none beyond this object."""
        self.model = model
        self._open = open_
        self._kept = KeptBytes(folder / FILE, "vector") if folder else None
        self._opened: Embedder | None = None
        self._known: dict[bytes, bytes] = {}

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder`. Raises as the one that is opened."""
        import numpy as np

        keys = [self._key(text) for text in texts]
        if not keys:
            return np.zeros((0, 1), np.float32)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        self._known |= self._read(missing)
        new = {key: text for key, text in missing.items() if key not in self._known}
        if new:
            self._opened = self._opened or self._open()
            rows = np.ascontiguousarray(self._opened.vectors([*new.values()]), dtype="<f4")
            computed = {key: row.tobytes() for key, row in zip(new, rows, strict=True)}
            self._known |= computed
            if self._kept:
                self._kept.keep(computed)
        return np.frombuffer(b"".join(self._known[key] for key in keys), "<f4").reshape(len(keys), -1)

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.model.identity}\0{text}".encode("utf-8", "replace")).digest()

    def _read(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        values = self._kept.find(keys) if self._kept else {}
        return values if len({len(value) for value in values.values()}) <= 1 else {}
