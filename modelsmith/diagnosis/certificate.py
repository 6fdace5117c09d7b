"""The firewall as a certificate: how near a batch comes to each part of what is scored, without any text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from modelsmith.diagnosis.firewall import Scored, ScoredText, scored_texts
from modelsmith.diagnosis.meaning import Meaning, nearness
from modelsmith.schema.base import ScoredPart
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evidence import Firewall, PartOverlap
from modelsmith.schema.governance import Policy
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.training_row import TrainingRow
from modelsmith.texts.overlap import NGRAM, most_overlap


def scored_parts(governed: GovernedSet) -> Mapping[ScoredPart, Sequence[ScoredText]]:
    """Every scored text of the set, by the part that it belongs to."""
    texts_by_part: dict[ScoredPart, list[ScoredText]] = {part: [] for part in get_args(ScoredPart)}
    for text in scored_texts(governed):
        texts_by_part[text.part].append(text)
    return texts_by_part


def certificate(
    governed: GovernedSet, rows: Sequence[TrainingRow], rows_digest: str, meaning: Meaning | None = None
) -> Firewall:
    """The certificate of a batch: how near its rows come to each part of what is scored.

    Args:
        governed: What is scored.
        rows: The batch, with the answers that it teaches.
        rows_digest: Its digest, as the training statement has it.
        meaning: Policy's limits in meaning, where it sets any.
    """
    batch = [spoken(row) for row in rows]
    return Firewall(
        rows=rows_digest,
        parts=tuple(
            PartOverlap(
                part=part,
                texts=len(texts),
                similarity=_nearest(texts, rows),
                overlap=round(most_overlap((text.text for text in texts), batch), 4),
            )
            for part, texts in scored_parts(governed).items()
        ),
        meaning=nearness(rows, scored_texts(governed), meaning) if meaning else None,
    )


def refuse_overlap(rows: Sequence[TrainingRow], governed: GovernedSet, policy: Policy | None) -> None:
    """Refuse a batch in which more of a scored text stands word for word than policy allows, before it is trained on.

    Raises:
        InvalidInput: ``rows-overlap``, with the generator or source that gives most of it.
    """
    if policy is None or policy.firewall is None:
        return
    limit = policy.firewall.most_overlap
    texts = scored_texts(governed)
    batch = [spoken(row) for row in rows]
    overlap = max(((most_overlap([text.text], batch), place) for place, text in enumerate(texts)), default=(0.0, 0))
    if round(overlap[0], 4) <= limit:
        return
    scored = texts[overlap[1]]
    worst = max(range(len(rows)), key=lambda number: most_overlap([scored.text], [batch[number]]))
    raise InvalidInput(
        "rows-overlap",
        f"{overlap[0]:.0%} of the words of a scored text ({scored.scenario}) stand in the training rows, in runs of "
        f"{NGRAM} words; policy allows {limit:.0%}. Most of them are in rows of {rows[worst].generator}, "
        f"template {rows[worst].template}.",
        "Say it there in other words, or take the scenario out of what is scored.",
        overlap=round(overlap[0], 4),
        most_overlap=limit,
        scenario=scored.scenario,
        generator=rows[worst].generator,
    )


def spoken(row: TrainingRow) -> str:
    """All that a row says: its conversation and the answer that it teaches."""
    return "\n".join([*(message.content for message in row.messages), row.answer])


def nearest_of(firewall: Firewall) -> float:
    """Similarity of the nearest pair of a row, of this batch or one before it, and any scored text."""
    parts = (*firewall.parts, *(part for ancestor in firewall.ancestors for part in ancestor.parts))
    return max((part.similarity for part in parts), default=0.0)


def _nearest(texts: Sequence[ScoredText], rows: Sequence[TrainingRow]) -> float:
    scored, nearest = Scored(texts), 0.0
    for row in rows:
        nearest = max(nearest, scored.nearest(row, nearest)[1])
    return round(nearest, 4)
