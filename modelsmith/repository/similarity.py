"""How alike two texts are: what keeps held-out texts apart from core texts, and training rows from scored ones.

Case, punctuation, accents, look-alike letters of other alphabets, invisible characters and the value of numbers are
taken away. The similarity of two texts is then the greater of two figures:

- the whole: their words, sorted, compared letter by letter (normalised Indel similarity);
- the part: of the smaller text, the share of words (function words count `FUNCTION_WEIGHT`) and the share of pairs of
  neighbouring words that the larger one has too; their mean to the power `STRETCH`. So a text inside a longer
  one is found, and two short notes that merely share the words of their trade are told apart.

A copy with other numbers, in another order of sentences or wrapped in other words is near 1; with one word in ten
replaced about 0.9; true rephrasings lie around 0.75; two notes of one domain that tell different stories around 0.6.
``rapidfuzz`` is imported on first use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

FUNCTION_WEIGHT = 0.3
"""What a function word counts beside a word of content: two texts share such words by chance."""
STRETCH = 0.45
"""Brings the part onto the scale of the whole: a copy with one word in seven replaced stays above 0.8."""
LEAST_PART = 5.0
"""A smaller bag of less weight than this (a few words) is not searched for inside a larger one."""

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_GAP = re.compile(r"[^\w#]+|_+")
_ENDING = re.compile(r"(?<=\w{4})(?:ings?|edly|ed|es|s|ly)$")
_FUNCTION_WORDS = frozenset(
    """a about after all already also although an and any are as at be because been before being but by can could did
    do does down each even every few for from get gets got had has have he her here his how however i if in instead
    into is it its just less like made many may me more most much my near nearly no none nor not now of off on once one
    only onto or other others our out over per same she should since so some still than that the their them then there
    these they this those though through to too two under until up us very was we were what when where which while who
    whose why will with within without would yet you your""".split()  # noqa: SIM905
)
_LOOK_ALIKES = str.maketrans(
    "авгдеикмнорстухѕіјѡԁԛԝһӏєґαβγειικνορτυχωϲϳıɑɡɩʀʏßøłđħ",
    "abrdenkmhopctyxsijwdqwhlerabyeiikvoptuxwcjiagirysoldh",
)


def words_of(text: str) -> list[str]:
    """The lower-case words of a text in their order, every number as ``#``."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    if not plain.isascii():
        shown = (c for c in plain if unicodedata.category(c) not in ("Mn", "Me", "Cf", "Cc") or c in "\t\n\r")
        plain = "".join(shown).translate(_LOOK_ALIKES)
    return _GAP.sub(" ", _NUMBER.sub("#", plain)).split()


def similarity(a: str, b: str) -> float:
    """0 (nothing in common) to 1 (the same words, or the smaller text inside the larger)."""
    return Index([b]).nearest(a)[0]


def nearest_to(text: str, others: Sequence[str]) -> tuple[float, int]:
    """Similarity and position of the text among ``others`` that is nearest; ``(0.0, -1)`` without others."""
    return Index(others).nearest(text)


def nearest(texts_a: Sequence[str], texts_b: Sequence[str]) -> tuple[float, int, int]:
    """The nearest pair of two groups: similarity and both positions; ``(0.0, -1, -1)`` when a group is empty."""
    index = Index(texts_b)
    best = (0.0, -1, -1)
    for i, text in enumerate(texts_a):
        score, j = index.nearest(text)
        if j >= 0 and (best[1] < 0 or score > best[0]):
            best = (score, i, j)
    return best


class _Bag(NamedTuple):
    """Words and pairs of neighbours as bits, and what the words weigh."""

    content: int
    function: int
    pairs: int
    weight: float


class Index:
    """Texts prepared for many comparisons; about 1 ms for one short text against 400."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._bits: dict[object, int] = {}
        words = [words_of(text) for text in texts]
        self._whole = [" ".join(sorted(one)) for one in words]
        self._bags = [self._bag(one) for one in words]

    def nearest(self, text: str) -> tuple[float, int]:
        """Similarity and position of the nearest text of the index; ``(0.0, -1)`` when it is empty."""
        from rapidfuzz.fuzz import ratio
        from rapidfuzz.process import extractOne

        words = words_of(text)
        part, place = self._nearest_part(self._bag(words))
        whole = " ".join(sorted(words))
        found = extractOne(whole, self._whole, scorer=ratio, processor=None, score_cutoff=100 * part)
        if found and (found[1] > 100 * part or place > found[2] or place < 0):
            return found[1] / 100, found[2]
        return part, place

    def _nearest_part(self, bag: _Bag) -> tuple[float, int]:
        content, function, pairs, weight = bag
        if weight < LEAST_PART:
            return 0.0, -1
        count = pairs.bit_count()
        best, place = 0.0, -1
        for i, (other_content, other_function, other_pairs, other_weight) in enumerate(self._bags):
            if other_weight >= LEAST_PART:
                shared = (content & other_content).bit_count() + FUNCTION_WEIGHT * (
                    function & other_function
                ).bit_count()
                share = shared / (weight if weight < other_weight else other_weight)
                if share + 1 > best:
                    share += (pairs & other_pairs).bit_count() / (min(count, other_pairs.bit_count()) or 1)
                    if share > best:
                        best, place = share, i
        return min(1.0, best / 2) ** STRETCH, place

    def _bag(self, words: list[str]) -> _Bag:
        content = function = pairs = 0
        stems = [_ENDING.sub("", word) for word in words]
        for word, stem in zip(words, stems, strict=True):
            if word in _FUNCTION_WORDS:
                function |= self._bit(word)
            elif word != "#":
                content |= self._bit(stem)
        for one, other in pairwise(stems):
            pairs |= self._bit((one, other) if one < other else (other, one))
        return _Bag(content, function, pairs, content.bit_count() + FUNCTION_WEIGHT * function.bit_count())

    def _bit(self, item: object) -> int:
        return 1 << self._bits.setdefault(item, len(self._bits))
