"""The model that finds names of people in texts: they have no form that a pattern could know."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.schema.base import Digest, Frozen, Slug
from modelsmith.schema.source import MODEL_URI, BaseModelSource

Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
"""What a model calls a kind of word, without the marks of where it begins: ``PER``, not ``B-PER``."""


class NameModel(Frozen):
    """Open weights that label the words of a text, pinned by their digest. They are never downloaded by us."""

    name: Slug
    """Name shown to people."""
    uri: Annotated[str, Field(pattern=MODEL_URI, max_length=1024)]
    """``file://<folder>``, ``package://<python package>/<folder>`` or ``hf://org/name@revision``; of a hub only what
    lies on this machine already."""
    digest: Digest
    """SHA-256 of the weights: of the folder's ``SHA256SUMS`` listing."""
    license: str
    """SPDX id of the weights' licence."""
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=16)] = ("PER", "PERSON")
    """Labels of the model whose words are taken out; those that it does not have are passed over, but not all."""

    @property
    def source(self) -> BaseModelSource:
        """Where its weights come from."""
        return BaseModelSource(name=self.name, uri=self.uri, digest=self.digest, license=self.license)
