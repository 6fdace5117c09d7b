"""An embedder without weights: a text's words, each by its synonym, so that paraphrases of a test share a vector."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from modelsmith.schema.embedding import EmbeddingModel
from modelsmith.texts.overlap import plain_words

MODEL = EmbeddingModel(name="bag", uri="file:///nowhere", digest="sha256:" + "1" * 64, license="MIT")


class Bag:
    """See above; ``noise`` is what another machine may round otherwise."""

    model = MODEL

    def __init__(self, synonyms: dict[str, str] | None = None, noise: float = 0.0) -> None:
        self._synonyms, self._noise = synonyms or {}, noise
        self._random = np.random.default_rng(7)

    def vectors(self, texts):
        vectors = np.zeros((len(texts), 512))
        for row, text in enumerate(texts):
            for word, count in Counter(plain_words(text)).items():
                digest = hashlib.sha256(self._synonyms.get(word, word).encode()).digest()
                vectors[row, int.from_bytes(digest[:4], "big") % 512] += count
        vectors += self._noise * self._random.standard_normal(vectors.shape)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths, lengths, 1)).astype(np.float32)
