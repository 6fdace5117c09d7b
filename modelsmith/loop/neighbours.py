"""Scenarios that a failure of production is like, by its words or by what it means. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from modelsmith.schema.base import Slug
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.pending import Neighbour
from modelsmith.substrates.embedder import Embedder
from modelsmith.texts.similarity import Index

LEAST: Final = 0.4
"""Similarity below which a scenario is not a neighbour: two notes of one trade have that much in common."""
MOST_NEAR: Final = 3
"""Neighbours of a case."""


class Neighbours:
    """Core and micro texts, to be searched many times. Held-out ones are not: nothing may say what is near to them."""

    def __init__(self, governed: GovernedSet) -> None:
        """Prepare the set's own wordings."""
        scenarios = (*governed.core, *governed.micro)
        self._capability: Mapping[Slug, Slug] = {scenario.id: scenario.capability for scenario in scenarios}
        self._names = [scenario.id for scenario in scenarios]
        self._texts = [scenario.user_texts()[0] for scenario in scenarios]
        self._index = Index(self._texts)

    def capability_of(self, near: Sequence[Neighbour]) -> Slug | None:
        """Of the nearest; a guess."""
        return self._capability[near[0].scenario] if near else None

    def by_meaning(self, texts: Sequence[str], embedder: Embedder) -> Iterator[tuple[Neighbour, ...]]:
        """For each text its nearest scenarios, of those that policy's embedding model finds near at all."""
        if not texts or not self._texts:
            yield from (() for _ in texts)
            return
        cosines = embedder.vectors(texts) @ embedder.vectors(self._texts).T
        for row in cosines:
            neighbours = [
                Neighbour(scenario=name, similarity=_share(float(similarity)))
                for name, similarity in zip(self._names, row, strict=True)
            ]
            near = sorted(neighbours, key=lambda item: (-item.similarity, item.scenario))[:MOST_NEAR]
            yield tuple(neighbour for neighbour in near if neighbour.similarity >= embedder.model.near)

    def by_words(self, text: str) -> tuple[Neighbour, ...]:
        """The nearest scenarios of a text, of those that share enough of its words."""
        places: list[int] = []
        near: list[Neighbour] = []
        for _ in range(min(MOST_NEAR, len(self._names))):
            similarity, place = self._index.nearest(text[:4000], LEAST, places)
            if place < 0:
                break
            places.append(place)
            near.append(Neighbour(scenario=self._names[place], similarity=_share(similarity)))
        return tuple(near)


def _share(similarity: float) -> float:
    return round(min(1.0, max(0.0, similarity)), 4)
