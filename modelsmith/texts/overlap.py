"""How much of a text stands word for word in others: what the field calls contamination by n-grams.

A text counts by its words in lower case without punctuation, look-alikes and what is not seen; of a writing without
spaces between words each letter is one (`similarity.folded`). An n-gram has 13 words; a shorter text of eight words or
more counts as one n-gram, and one of fewer words shares such an n-gram with anything, so it is left out (Brown et al.,
2020, appendix C). The figure is the share of a text's words that stand in an n-gram which another text has too (Touvron
et al., 2023, appendix A.6, where less than 20 % is called clean). Numbers keep their value here: a copy with other
numbers is what `similarity` finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from modelsmith.texts.similarity import folded

NGRAM: Final = 13
"""Words of an n-gram."""
SHORTEST: Final = 8
"""A text with fewer words is not compared."""

_WORD = re.compile(r"[^\W_]+")


def plain_words(text: str) -> list[str]:
    """The words of a text in lower case, in their order.

    >>> plain_words("Floors rose to 1.60!")
    ['floors', 'rose', 'to', '1', '60']
    """
    return _WORD.findall(folded(text))


def most_overlap(texts: Iterable[str], others: Iterable[str]) -> float:
    """The largest share of a text's words that stands in ``others``, over all texts; 0 without texts.

    >>> most_overlap(["one two three four five six seven eight"], ["zero one two three four five six seven eight nine"])
    1.0
    """
    word_lists = [words for words in map(plain_words, texts) if len(words) >= SHORTEST]
    lengths = {min(NGRAM, len(words)) for words in word_lists}
    ngrams: set[tuple[str, ...]] = set()
    for words in map(plain_words, others):
        for length in lengths:
            ngrams.update(_ngrams(words, length))
    return max((_share(words, ngrams) for words in word_lists), default=0.0)


def _ngrams(words: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[begin:] for begin in range(length)), strict=False)


def _share(words: Sequence[str], ngrams: set[tuple[str, ...]]) -> float:
    length = min(NGRAM, len(words))
    covered: set[int] = set()
    for begin, ngram in enumerate(_ngrams(words, length)):
        if ngram in ngrams:
            covered.update(range(begin, begin + length))
    return len(covered) / len(words)
