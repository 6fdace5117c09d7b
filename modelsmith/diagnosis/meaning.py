"""The firewall by meaning: no training row may say in other words what a model is scored on. Pure.

Like is compared with like, as in `firewall`: what is asked stands against the row's conversation and what its answer
says in words of its own; a labelled answer against the row's answer. A mean over a long text hides what a part of it
says, so each message counts besides, and so do stretches of a long text, about as long as a scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from modelsmith.diagnosis.firewall import ScoredText, Separation, dropped_for, own_words, separate
from modelsmith.schema.base import ScoredPart
from modelsmith.schema.embedding import Cosine
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.evidence import Nearness, PartNearness
from modelsmith.schema.training_row import TrainingRow
from modelsmith.substrates.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = TypeVar("Row", bound=TrainingRow)

STRETCH: Final = 60
"""Words of a stretch of a long text; each begins half a stretch after the one before."""
LONG: Final = 90
"""Words from which on a text is compared by stretches besides as a whole."""
DIGITS: Final = 4
"""To which cosines are rounded before anything is decided by them."""
TOLERANCE: Final = 0.001
"""By how much two machines may differ about a cosine: libraries add up in an order of their own."""
_AT_ONCE: Final = 4_096
_LENGTH_OFF: Final = 0.001
"""By how much a vector's length may differ from 1."""


@dataclass(frozen=True)
class Meaning:
    """How near in meaning a row may come to what is scored."""

    embedder: Embedder
    most: Mapping[ScoredPart, Cosine]
    """By part; a row whose cosine reaches this is dropped. Parts that are not named are not looked at."""


class Nearest(NamedTuple):
    """The scored text of a part that a row comes nearest to."""

    text: ScoredText
    cosine: float


def kept_apart(
    rows: Sequence[Row], texts: Sequence[ScoredText], limit: float, meaning: Meaning | None
) -> Separation[Row]:
    """Drop every row that is too near to a scored text: by its words (see `separate`), and then by its meaning."""
    separation = separate(rows, texts, limit)
    if meaning is None or not meaning.most:
        return separation
    dropped_rows = {drop.row for drop in separation.dropped}
    places = [place for place in range(len(rows)) if place not in dropped_rows]
    dropped = [
        dropped_for(place, near.text, near.cosine, "meaning")
        for place, near in zip(places, _over(separation.rows, texts, meaning), strict=True)
        if near
    ]
    if not dropped:
        return separation
    dropped_rows |= {drop.row for drop in dropped}
    remaining = [row for place, row in enumerate(rows) if place not in dropped_rows]
    both = sorted([*separation.dropped, *dropped], key=lambda drop: drop.row)
    again = separate(remaining, texts, limit)
    return Separation(tuple(remaining), tuple(both), again.nearest, again.nearest_to)


def nearness(rows: Sequence[TrainingRow], texts: Sequence[ScoredText], meaning: Meaning) -> Nearness:
    """Nearness of a batch for the certificate: the nearest pair of each part."""
    cosines = [0.0] * len(meaning.most)
    for row in _by_part(rows, texts, meaning):
        cosines = [max(most, near.cosine) for most, near in zip(cosines, row, strict=True)]
    parts = zip(sorted(meaning.most.items()), cosines, strict=True)
    return Nearness(
        model=meaning.embedder.model.digest,
        settings=meaning.embedder.model.identity,
        parts=tuple(PartNearness(part=part, most_cosine=most, cosine=near) for (part, most), near in parts),
    )


def nearest_in_meaning(
    rows: Sequence[TrainingRow], texts: Sequence[ScoredText], embedder: Embedder, most: int
) -> tuple[tuple[int, Nearest], ...]:
    """Places of the rows that come nearest in meaning to a scored text of any part, and to which, nearest first.

    At most ``most`` of them; none that is near to nothing.
    """
    every = Meaning(embedder, {text.part: 1.0 for text in texts})
    by_row = [(place, max(near, key=_cosine)) for place, near in enumerate(_by_part(rows, texts, every)) if near]
    return tuple(sorted((item for item in by_row if item[1].cosine), key=lambda item: -item[1].cosine)[:most])


def agree(first: Nearness, other: Nearness) -> bool:
    """Whether two machines say the same of a batch, within `TOLERANCE`."""
    flat = Nearness.model_copy
    same = [flat(each, update={"parts": ()}) for each in (first, other)]
    parts = [[part.model_copy(update={"cosine": 0.0}) for part in each.parts] for each in (first, other)]
    if same[0] != same[1] or parts[0] != parts[1]:
        return False
    return all(abs(a.cosine - b.cosine) <= TOLERANCE + 1e-9 for a, b in zip(first.parts, other.parts, strict=True))


def _cosine(near: Nearest) -> float:
    return near.cosine


def _over(rows: Sequence[TrainingRow], texts: Sequence[ScoredText], meaning: Meaning) -> Iterator[Nearest | None]:
    """For each row the nearest text of those parts in which it reaches the limit."""
    limits = [most for _, most in sorted(meaning.most.items())]
    for row in _by_part(rows, texts, meaning):
        over = [near for near, most in zip(row, limits, strict=True) if near.cosine >= most]
        yield max(over, key=_cosine, default=None)


def _by_part(
    rows: Sequence[TrainingRow], texts: Sequence[ScoredText], meaning: Meaning
) -> Iterator[tuple[Nearest, ...]]:
    """For each row its nearest text of each part that has a limit, the parts in order."""
    parts = sorted(meaning.most)
    scored = [text for text in texts if text.part in meaning.most and text.text.strip()]
    of_texts = _vectors(meaning.embedder, [text.text for text in scored])
    nothing = Nearest(ScoredText("", ""), 0.0)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        nearest = [[nothing] * len(parts) for _ in some]
        for kind, texts_of_rows in (("question", [*map(_question_pieces, some)]), ("answer", [*map(_answered, some)])):
            for number, part in enumerate(parts):
                places = [place for place, text in enumerate(scored) if (text.part, text.kind) == (part, kind)]
                if not places or not any(texts_of_rows):
                    continue
                best, which = _nearest(meaning.embedder, texts_of_rows, of_texts[places])
                for row in range(len(some)):
                    if best[row] > nearest[row][number].cosine:
                        nearest[row][number] = Nearest(scored[places[int(which[row])]], float(best[row]))
        yield from map(tuple, nearest)


def _nearest(
    embedder: Embedder, texts_of_rows: Sequence[Sequence[str]], texts: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each row the largest cosine of one of its texts and one of ``texts``, rounded, and which; 0 without texts."""
    import numpy as np

    places = {text: place for place, text in enumerate(dict.fromkeys(text for some in texts_of_rows for text in some))}
    cosines = _vectors(embedder, [*places]) @ texts.T
    best_of_text, which_of_text = cosines.max(axis=1), cosines.argmax(axis=1)
    best, which = np.zeros(len(texts_of_rows)), np.zeros(len(texts_of_rows), np.int64)
    for row, some in enumerate(texts_of_rows):
        for text in some:
            cosine = round(min(1.0, max(0.0, float(best_of_text[places[text]]))), DIGITS)
            if cosine > best[row]:
                best[row], which[row] = cosine, which_of_text[places[text]]
    return best, which


def _vectors(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """The texts' vectors, each of length 1: by another one every row would count as far from everything.

    Raises:
        InfrastructureFailure: ``embedding-failed``.
    """
    import numpy as np

    vectors = embedder.vectors(texts)
    lengths = np.linalg.norm(vectors, axis=1)
    for text, length in zip(texts, lengths, strict=True):
        if not abs(length - 1) <= _LENGTH_OFF and (length != 0 or any(map(str.isalnum, text))):
            raise InfrastructureFailure(
                "embedding-failed",
                f"The embedding model {embedder.model.name} gives a text a vector of length {length:g}, not 1.",
                "Name another model in policy.yaml; if it was right before, remove .git/modelsmith/cache/vectors.db.",
                length=str(length),
            )
    return vectors


def _question_pieces(row: TrainingRow) -> tuple[str, ...]:
    messages = [message.content for message in row.messages]
    pieces = dict.fromkeys(["\n".join(messages), *(messages if len(messages) > 1 else ()), *own_words(row.answer)])
    return tuple(dict.fromkeys(piece for text in pieces if text.strip() for piece in (text, *_stretches(text))))


def _answered(row: TrainingRow) -> tuple[str, ...]:
    return own_words(row.answer)


def _stretches(text: str) -> Iterator[str]:
    words = text.split()
    if len(words) < LONG:
        return
    for begin in range(0, len(words) - STRETCH // 2, STRETCH // 2):
        yield " ".join(words[begin : begin + STRETCH])
