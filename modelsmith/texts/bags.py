"""What a text is compared by: its words, without their order."""

from __future__ import annotations

from typing import NamedTuple


class Bag(NamedTuple):
    """Words of content, function words and pairs of neighbours, and what the words weigh."""

    content: frozenset[str]
    function: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    weight: float
