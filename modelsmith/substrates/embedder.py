"""The port through which texts become vectors: whichever model embeds, the firewall and diagnosis see only this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from modelsmith.schema.embedding import EmbeddingModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(Protocol):
    """An embedding model, loaded when the first text comes."""

    model: EmbeddingModel
    """The embedding model, as policy names it."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of length 1 for each text, in their order; zeros for a text without any token.

        A text's row depends on the text alone, within rounding: not on the texts beside it.
        """
        ...
