"""Many texts against an index at once, with numpy: what each pair is at most, so that few pairs are compared in full.

The part (see `similarity`) is computed exactly, by counting. The whole is a longest common subsequence of letters, and
bounded: letters are dealt out to a few groups, and what two texts have in common is never more than what they have in
common of each group. Short texts of few letters are compared many at a time, which is why that is cheaper.

Nothing is found or missed here that `similarity` alone would not find or miss: a property test holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from modelsmith.texts.bags import Bag

LONG: Final = 2_000
"""Letters beyond which a text is not bounded: it may be as near as it likes."""
_GROUP_LETTERS, _GROUPS = 46, 5
"""Letters that a text should have of each group, and groups at most: more are cheaper and bound less."""
_AT_ONCE = 1 << 18
"""Pairs that are bounded together: about a megabyte of figures."""
_SLACK = 1e-6


class Postings:
    """Which texts hold an item, as arrays."""

    def __init__(self, item_lists: Sequence[Iterable[object]]) -> None:
        import numpy as np

        self._ids: dict[object, int] = {}
        ids, texts = self._ids, list[int]()
        items = [ids.setdefault(item, len(ids)) for place, some in enumerate(item_lists) for item in some]
        texts = [place for place, some in enumerate(item_lists) for _ in some]
        numbers = np.array(items, dtype=np.intp)
        self._texts = np.array(texts, dtype=np.intp)[np.argsort(numbers, kind="stable")]
        self._begins = [0, *np.cumsum(np.bincount(numbers, minlength=len(ids))).tolist()]
        self._count = len(item_lists)

    def shared(self, items: Iterable[object]) -> NDArray[np.intp]:
        """How many of the items each text holds."""
        import numpy as np

        begins, texts = self._begins, self._texts
        ids = [self._ids[item] for item in items if item in self._ids]
        postings = [texts[begins[item_id] : begins[item_id + 1]] for item_id in ids]
        return np.bincount(np.concatenate(postings) if postings else texts[:0], minlength=self._count)


class Bounds(NamedTuple):
    """How alike one text is to each text of an index, and bounds of that."""

    whole: NDArray[np.float64]
    """At most, of the whole."""
    part: NDArray[np.float64]
    """Share of words and share of neighbours, summed, exactly; below zero where the part does not count."""


class Arrays:
    """The texts of an index as arrays."""

    def __init__(self, full_texts: Sequence[str], bags: Sequence[Bag]) -> None:
        import numpy as np

        self._content = Postings([bag.content for bag in bags])
        self._function = Postings([bag.function for bag in bags])
        self._pairs = Postings([bag.pairs for bag in bags])
        self._weights = np.array([bag.weight for bag in bags], dtype=np.float64)
        self._paired = np.array([len(bag.pairs) for bag in bags], dtype=np.float64)
        self._lengths = np.array([len(text) for text in full_texts], dtype=np.float64)
        self._long = self._lengths > LONG
        short = ["" if len(text) > LONG else text for text in full_texts]
        self._groups = _groups(short)
        self._grouped = [[text.translate(without) for text in short] for without in self._groups]

    def bounds(self, texts: Sequence[tuple[str, Bag]], function_weight: float, least: float) -> Iterator[Bounds]:
        """One for each text, in their order; bags that weigh less than ``least`` have no part."""
        import numpy as np

        at_once = max(1, _AT_ONCE // max(1, len(self._lengths)))
        for begin in range(0, len(texts), at_once):
            block = texts[begin : begin + at_once]
            shared = self._common_letters([text if len(text) <= LONG else "" for text, _ in block])
            for (text, bag), common in zip(block, shared, strict=True):
                letters = np.maximum(self._lengths + len(text), 1)
                unknown = self._long | (len(text) > LONG) | (letters == 1)
                yield Bounds(
                    np.where(unknown, 1.0, 2 * common / letters + _SLACK), self._part(bag, function_weight, least)
                )

    def _common_letters(self, texts: Sequence[str]) -> NDArray[Any]:
        """By text, how many letters each text of the index has in common with it at most."""
        import numpy as np
        from rapidfuzz.distance import LCSseq
        from rapidfuzz.process import cdist

        total = np.zeros((len(self._lengths), len(texts)), dtype=np.uint16)
        for without, grouped in zip(self._groups, self._grouped, strict=True):
            cleaned = [text.translate(without) for text in texts]
            total += cdist(grouped, cleaned, scorer=LCSseq.similarity, dtype=np.uint16)
        return total.T

    def _part(self, bag: Bag, function_weight: float, least: float) -> NDArray[np.float64]:
        import numpy as np

        if bag.weight < least:
            return np.full(len(self._weights), -1.0)
        words = self._content.shared(bag.content) + function_weight * self._function.shared(bag.function)
        beside = self._pairs.shared(bag.pairs) / np.maximum(np.minimum(len(bag.pairs), self._paired), 1)
        share: NDArray[np.float64] = words / np.minimum(bag.weight, np.maximum(self._weights, least)) + beside
        return np.where(self._weights < least, -1.0, share)


def _groups(texts: Sequence[str]) -> list[dict[int, None]]:
    """For each group of letters what takes all others out of a text; groups have about as many letters in the texts."""
    letters = Counter(chain.from_iterable(texts))
    count = min(_GROUPS, max(1, round(sum(letters.values()) / max(1, len(texts)) / _GROUP_LETTERS)))
    loads, members = [0] * count, [set[str]() for _ in range(count)]
    for letter, times in letters.most_common():
        lightest = loads.index(min(loads))
        loads[lightest] += times
        members[lightest].add(letter)
    return [dict.fromkeys(ord(letter) for letter in letters if letter not in group) for group in members]
