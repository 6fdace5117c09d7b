"""How alike two texts are: what keeps held-out texts apart from core texts, and training rows from scored ones.

Case, punctuation, accents, look-alike letters of other alphabets, invisible characters and the value of numbers are
taken away. The similarity of two texts is then the greater of two figures:

- the whole: their words, sorted, compared letter by letter (normalised Indel similarity), and word by word where the
  letters are too many (`LONGEST`): time then grows with the texts, not with their square;
- the part: of the smaller text, the share of words (function words count `FUNCTION_WEIGHT`) and the share of pairs of
  neighbouring words that the larger one has too; their mean to the power `STRETCH`. So a text inside a longer
  one is found, and two short notes that merely share the words of their trade are told apart.

A copy with other numbers, in another order of sentences or wrapped in other words is near 1; with one word in ten
replaced about 0.9; true rephrasings lie around 0.75; two notes of one domain that tell different stories around 0.6.
``rapidfuzz`` is imported on first use.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from itertools import chain, pairwise
from typing import Final, NamedTuple

from modelsmith.normal_form import normalized
from modelsmith.texts.bags import Bag
from modelsmith.texts.many import Arrays, Bounds

FUNCTION_WEIGHT = 0.3
"""What a function word counts beside a word of content: two texts share such words by chance."""
STRETCH = 0.45
"""Brings the part onto the scale of the whole: a copy with one word in seven replaced stays above 0.8."""
LONGEST = 8_000
"""Two texts with more letters than this (in their mean) are compared word by word: equal words in sorted order are
a common subsequence of both, so the figure is never above that of letters."""
LEAST_PART = 5.0
"""A smaller bag of less weight than this (a few words) is not searched for inside a larger one."""
MANY: Final = 100_000
"""Pairs of texts from which on they are bounded by `many` first; for fewer, importing numpy takes longer."""

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_GAP = re.compile(r"[^\w#]+|_+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""Letters of writings that put no space between words (Thai, Lao, Tibetan, Burmese, Khmer, kana, ideographs): each is
a word here. Else a whole sentence were one, which is found in no other text that goes on after it."""
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
    """The lower-case words of a text in their order, every number as ``#``.

    >>> words_of("Floor prices rose: 1.60, up 7%!")
    ['floor', 'prices', 'rose', '#', 'up', '#']
    """
    return _GAP.sub(" ", _NUMBER.sub("#", folded(text))).split()


def folded(text: str) -> str:
    """The text as it is compared: in lower case, without marks and what is not seen, look-alikes as one letter.

    >>> folded("Caf\u00e9 \u0430\u200bt 1.60")
    'cafe at 1.60'
    """
    plain = normalized("NFKD", text).casefold()
    if plain.isascii():
        return plain
    visible = (c for c in plain if unicodedata.category(c) not in ("Mn", "Me", "Cf", "Cc") or c in "\t\n\r")
    return _UNSPACED.sub(r" \g<0> ", "".join(visible).translate(_LOOK_ALIKES))


def similarity(a: str, b: str) -> float:
    """0 (nothing in common) to 1 (the same words, or the smaller text inside the larger).

    >>> similarity("The floor rose to 1.60 in March.", "in march the FLOOR rose to 2.10")
    1.0
    """
    return Index([b]).nearest(a)[0]


def nearest(texts_a: Sequence[str], texts_b: Sequence[str]) -> tuple[float, int, int]:
    """The nearest pair of two groups: similarity and both positions; ``(0.0, -1, -1)`` when a group is empty.

    >>> nearest(["a cat"], ["a dog", "the cat"])
    (0.5, 0, 1)
    """
    best = (0.0, -1, -1)
    for i, search in enumerate(Index(texts_b).searches(texts_a)):
        score, j = search.nearest(best[0])
        if j >= 0 and (best[1] < 0 or score > best[0]):
            best = (score, i, j)
    return best


NearestText = tuple[float, int]
"""Similarity and position of the nearest text."""


class Index:
    """Texts prepared for many comparisons: which of them hold a word or a pair is looked up, not searched for."""

    def __init__(self, texts: Iterable[str]) -> None:
        prepared = [_prepared(text) for text in texts]
        self._whole = [text for text, _ in prepared]
        self._longest = max(map(len, self._whole), default=0)
        self._bags = [bag for _, bag in prepared]
        self._weights = [bag.weight for bag in self._bags]
        self._paired = [len(bag.pairs) or 1 for bag in self._bags]
        self._lightest = min((weight for weight in self._weights if weight >= LEAST_PART), default=LEAST_PART)

    @cached_property
    def _places(self) -> Mapping[object, list[int]]:
        """The texts that hold a word of content or a pair."""
        places: dict[object, list[int]] = defaultdict(list)
        for place, bag in enumerate(self._bags):
            for item in chain(bag.content, bag.pairs):
                places[item].append(place)
        return places

    @cached_property
    def _arrays(self) -> Arrays:
        return Arrays(self._whole, self._bags)

    def nearest(self, text: str, least: float = 0.0, besides: Collection[int] = ()) -> tuple[float, int]:
        """As `Search.nearest` of a text that is searched for alone."""
        return Search(self, *_prepared(text)).nearest(least, besides)

    def searches(self, texts: Sequence[str], many: int = MANY) -> Iterator[Search]:
        """A search for each text, in their order; with ``many`` pairs or more they are prepared together."""
        prepared = map(_prepared, texts)
        if not self._whole or len(texts) * len(self._whole) < many or not find_spec("numpy"):
            yield from (Search(self, text, bag) for text, bag in prepared)
            return
        queries = list(prepared)
        for (text, bag), bounds in zip(queries, self._arrays.bounds(queries, FUNCTION_WEIGHT, LEAST_PART), strict=True):
            yield Search(self, text, bag, bounds)

    def find(self, text: str, bag: Bag, bounds: Bounds | None, least: float, besides: Collection[int]) -> NearestText:
        """What `Search.nearest` gives; of pairs that ``bounds`` rule out only those that are very long are compared."""
        from rapidfuzz.fuzz import ratio
        from rapidfuzz.process import extractOne

        part, place = self._best_part(bounds, least, besides) if bounds else self._nearest_part(bag, least, besides)
        best = [(part, -place)] if place >= 0 else []
        places = (bounds.whole >= max(part, least)).nonzero()[0].tolist() if bounds else range(len(self._whole))
        choices: list[str | None] = [self._whole[i] for i in places]
        for passed_over in besides:
            if (at := bisect_left(places, passed_over)) < len(places) and places[at] == passed_over:
                choices[at] = None
        if self._longest * len(text) > LONGEST**2:
            for at in [i for i, other in enumerate(choices) if other and len(other) * len(text) > LONGEST**2]:
                choices[at] = None
                if (score := _by_words(text, self._whole[places[at]])) >= max(part, least):
                    best.append((score, -places[at]))
        match = extractOne(text, choices, scorer=ratio, processor=None, score_cutoff=100 * max(part, least))
        if match:
            best.append((match[1] / 100, -places[match[2]]))
        score, place = max(best, default=(0.0, 1))
        return score, -place

    def _best_part(self, bounds: Bounds, least: float, besides: Collection[int]) -> NearestText:
        shares = bounds.part.copy()
        shares[[*besides]] = -1.0
        place = int(shares.argmax())
        share = float(shares[place])
        score = min(1.0, max(share, 0.0) / 2) ** STRETCH
        return (score, place) if share > _least_share(least) and score >= least else (0.0, -1)

    def _nearest_part(self, bag: Bag, least: float, besides: Collection[int]) -> NearestText:
        content, function, pairs, weight = bag
        if weight < LEAST_PART:
            return 0.0, -1
        words, neighbours = self._shared(content), self._shared(pairs)
        best, place = _least_share(least), -1
        for i, bound in self._bounds(bag, words, neighbours, best):
            _, other_function, other_pairs, other_weight = self._bags[i]
            if bound > best and other_weight >= LEAST_PART and i not in besides:
                shared = words.get(i, 0) + FUNCTION_WEIGHT * len(function & other_function)
                beside = neighbours.get(i, 0) / (min(len(pairs), len(other_pairs)) or 1)
                share = shared / min(weight, other_weight) + beside
                if share > best:
                    best, place = share, i
        score = min(1.0, best / 2) ** STRETCH
        return (score, place) if place >= 0 and score >= least else (0.0, -1)

    def _bounds(
        self, bag: Bag, words: Mapping[int, int], neighbours: Mapping[int, int], best: float
    ) -> list[tuple[int, float]]:
        """Positions, ascending, of all texts whose part could be above ``best``, each with what it is at most.

        Where a text has no pair in common with the bag, its part is 1 at most.
        """
        weight, weights, paired = bag.weight, self._weights, self._paired
        function, pairs, slack = FUNCTION_WEIGHT * len(bag.function), len(bag.pairs) or 1, 1e-9
        if function + slack > best * min(weight, self._lightest):
            places: Iterable[int] = range(len(weights))
        elif best < 1:
            alone = (
                i
                for i, weight_shared in words.items()
                if weight_shared + function + slack > best * min(weight, weights[i])
            )
            places = sorted({*neighbours, *alone})
        else:
            places = sorted(neighbours)
        shared_weight, beside = words.get, neighbours.get
        return [
            (i, bound)
            for i in places
            if (
                bound := (shared_weight(i, 0) + function) / (weight if weight < weights[i] else weights[i] or 1)
                + beside(i, 0) / (pairs if pairs < paired[i] else paired[i])
                + slack
            )
            > best
        ]

    def _shared(self, items: Iterable[object]) -> dict[int, int]:
        """How many of the items each text holds, by its position; texts that hold none are left out."""
        return Counter(chain.from_iterable(self._places[item] for item in items if item in self._places))


class Search(NamedTuple):
    """A text that is searched for in an index."""

    among: Index
    whole: str
    """Its words, sorted."""
    bag: Bag
    bounds: Bounds | None = None

    def nearest(self, least: float = 0.0, besides: Collection[int] = ()) -> NearestText:
        """Similarity and position of the nearest text of the index; ``(0.0, -1)`` when none reaches ``least``.

        Texts at the positions ``besides`` are passed over. The search is faster the higher ``least`` is.
        """
        return self.among.find(self.whole, self.bag, self.bounds, least, besides)


def _least_share(least: float) -> float:
    """The share above which a part reaches ``least``."""
    return max(0.0, 2.0 * math.pow(least, 1 / STRETCH) - 1e-9)


def _by_words(text: str, other: str) -> float:
    """Share of two texts of sorted words that equal words, and the gaps after them, make up."""
    common = (Counter(text.split(" ")) & Counter(other.split(" "))).items()
    letters = sum(count * (len(word) + 1) for word, count in common)
    return 2 * letters / (len(text) + len(other) + 2)


def _prepared(text: str) -> tuple[str, Bag]:
    return _sorted_words(text) if len(text) <= 2_000 else _sorted_words.__wrapped__(text)


@lru_cache(maxsize=1 << 12)
def _sorted_words(text: str) -> tuple[str, Bag]:
    """The words of a text, sorted, and its bag: checks of one set compare the same texts one after the other."""
    words = words_of(text)
    return " ".join(sorted(words)), _bag(words)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return _ENDING.sub("", word)


def _bag(words: list[str]) -> Bag:
    stems = list(map(_stem, words))
    function = _FUNCTION_WORDS.intersection(words)
    content = {stem for word, stem in zip(words, stems, strict=True) if word not in function}
    content.discard("#")
    pairs = {(stem, other) if stem < other else (other, stem) for stem, other in pairwise(stems)}
    return Bag(frozenset(content), function, frozenset(pairs), len(content) + FUNCTION_WEIGHT * len(function))
