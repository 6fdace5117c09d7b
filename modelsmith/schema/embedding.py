"""The model that turns texts into vectors, so that texts that say the same in other words lie near to each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import Digest, Frozen, ScoredPart, Slug
from modelsmith.schema.canonical import digest
from modelsmith.schema.source import MODEL_URI, BaseModelSource

Pooling = Literal["mean", "cls", "last"]
"""Which of a text's tokens become its vector: the mean of all, the first, or the last."""

Cosine = Annotated[float, Field(gt=0, le=1)]
"""Cosine of the angle between two vectors: 1 is the same direction."""

METHOD = 1
"""Raised whenever the same model and settings begin to give other vectors."""


class EmbeddingModel(Frozen):
    """Open weights that embed texts, pinned by their digest as base models are. They are never downloaded by us."""

    name: Slug
    """Name shown to people."""
    uri: Annotated[str, Field(pattern=MODEL_URI, max_length=1024)]
    """``file://<folder>``, ``package://<python package>/<folder>`` or ``hf://org/name@revision``; of a hub only what
    lies on this machine already. A GGUF file is taken as well."""
    digest: Digest
    """SHA-256 of the weights: of the folder's ``SHA256SUMS`` listing, or of the GGUF file."""
    license: str
    """SPDX id of the weights' licence."""
    pooling: Pooling | None = None
    """Not set: what the folder's ``modules.json`` and ``1_Pooling/config.json`` say, and ``mean`` where there are none.
    """
    prefix: Annotated[str, Field(max_length=500)] | None = None
    """Put before every text, as the model was trained to read it (E5: ``query: ``). Not set: the default prompt of the
    folder's ``config_sentence_transformers.json``, and nothing where there is none."""
    near: Cosine = 0.5
    """Cosine from which on two texts speak of the same thing: below it, a failure of production has no neighbour."""

    @property
    def source(self) -> BaseModelSource:
        """Where its weights come from."""
        return BaseModelSource(name=self.name, uri=self.uri, digest=self.digest, license=self.license)

    @property
    def identity(self) -> str:
        """Digest of all that decides a text's vector; not of name and place."""
        return digest([METHOD, self.digest, self.pooling, self.prefix])


MostCosine = Annotated[dict[ScoredPart, Cosine], Field(max_length=5)]
"""By part of what is scored: the cosine that no training row may reach."""
