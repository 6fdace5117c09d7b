"""Rows that no declared generator wrote: which of them are kept, and how they join the generators' rows. Pure.

A row is kept when its answer earns full marks under the rubric, when the firewall lets it pass, and when it says
something that no other row says. It takes the place of a generator's row of the same capability, so that the balance
over capabilities stays the one that the diagnosis chose.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import JsonValue

from modelsmith.diagnosis.firewall import ScoredText
from modelsmith.diagnosis.meaning import Meaning, kept_apart
from modelsmith.diagnosis.pairs import Drawn
from modelsmith.evaluation.reward import JudgedPoints, Sampled
from modelsmith.points.answers import read_answer
from modelsmith.points.check import grade_point
from modelsmith.schema.base import Slug
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.diagnosis import FailureCluster, Offered, Rejection
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import JudgeCheck, Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.training_row import Lineage, PairSource, Prompt, TrainingRow
from modelsmith.texts.similarity import Index

DATASET: Final = "dataset"
"""What stands for the template of a data set's row."""
_SAYS: Final = 12
"""Letters and digits of an answer from which on a text that has them all says it."""
LONGEST_TEXT: Final = 100_000
"""Characters of a prompt or an answer; a longer one is not a row."""


@dataclass
class Offer:
    """Rows that one source offers, and why the rest of it is not taken."""

    source: PairSource
    name: Slug
    offered: int = 0
    rows: list[TrainingRow] = field(default_factory=list)
    rejected: Counter[Rejection] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def counts(self) -> Offered:
        """Counts of what the source offered, once `joined` has taken what it takes."""
        assert self.source != "generator"
        return Offered(
            source=self.source, name=self.name, offered=self.offered, kept=len(self.rows),
            rejected=dict(sorted(self.rejected.items())), notes=tuple(self.notes),
        )  # fmt: skip


class NoRow(ValueError):
    """Why a record of a data set is not a row."""

    def __init__(self, reason: Rejection, message: str) -> None:
        super().__init__(message)
        self.reason: Rejection = reason


def full_marks(rubric: Rubric, answer: str, expected: Mapping[str, JsonValue], *, cut_off: bool = False) -> bool:
    """Whether an answer passes every declared point of a rubric. What a judge decides, `without_failed` asks."""
    return all(
        grade_point(point, answer, expected, cut_off=cut_off).passed
        for point in rubric.points
        if not isinstance(point.check, JudgeCheck)
    )


def within_room(offer: Offer, most: Mapping[Slug, int]) -> None:
    """Leave so many rows of each capability in the offer, the first ones: the others would find no room."""
    remaining, rows_kept = Counter(most), []
    for row in offer.rows:
        assert row.lineage
        remaining[row.lineage.capability] -= 1
        if remaining[row.lineage.capability] >= 0:
            rows_kept.append(row)
    offer.rejected["no-room"] += len(offer.rows) - len(rows_kept)
    offer.rejected = +offer.rejected
    offer.rows = rows_kept


def without_failed(offer: Offer, judged: JudgedPoints) -> None:
    """Take out of the offer the rows whose answer fails a judged point. Raises as ``judged``."""
    rows = [row for row in offer.rows if isinstance(row, Prompt)]
    verdicts = judged([Sampled(row.answer, False, row.expected, row.messages) for row in rows])
    failed = {id(row) for row, points in zip(rows, verdicts, strict=True) if not all(points.values())}
    offer.rejected["fails-rubric"] += len(failed)
    offer.rejected = +offer.rejected
    offer.rows = [row for row in offer.rows if id(row) not in failed]


def own_samples(
    governed: GovernedSet,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Drawn]],
    writer: str,
    clusters: Sequence[FailureCluster],
) -> Offer:
    """Of each prompt the first answer of the model that passes and is not the declared one word for word.

    Passing is by declared points here, as in `taught` and `row_of`; `without_failed` asks the judge about the rest.
    """
    offer = Offer("own-sample", "own")
    for prompt, samples in zip(prompts, answers, strict=True):
        offer.offered += 1
        passing = [
            drawn.text
            for drawn in samples
            if full_marks(governed.rubric, drawn.text, prompt.expected, cut_off=drawn.cut_off)
        ]
        new = next((text for text in passing if text.strip() != prompt.answer.strip()), None)
        if new is None:
            offer.rejected["as-declared" if passing else "fails-rubric" if samples else "no-answer"] += 1
            continue
        lineage = _lineage("own-sample", governed, prompt, clusters, writer)
        offer.rows.append(_row(prompt, prompt.messages, new, lineage))
    return offer


def taught(
    governed: GovernedSet,
    name: Slug,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Drawn]],
    writer: str,
    clusters: Sequence[FailureCluster],
) -> Offer:
    """Of each prompt that a teacher wrote its answer, where that passes by what the prompt was written for.

    A note that holds its whole answer is no row: who is trained on it learns to copy.
    """
    offer = Offer("teacher", name)
    for prompt, samples in zip(prompts, answers, strict=True):
        offer.offered += 1
        answer = samples[0] if samples and prompt.messages[-1].content.strip() else None
        if answer is None:
            offer.rejected["no-answer"] += 1
        elif not full_marks(governed.rubric, answer.text, prompt.expected, cut_off=answer.cut_off):
            offer.rejected["fails-rubric"] += 1
        elif any(tells(message.content, text) for message in prompt.messages for text in (prompt.answer, answer.text)):
            offer.rejected["tells-answer"] += 1
        else:
            lineage = _lineage("teacher", governed, prompt, clusters, writer)
            offer.rows.append(_row(prompt, prompt.messages, answer.text, lineage))
    return offer


def tells(text: str, answer: str) -> bool:
    """Whether a text says the whole of an answer, in whatever order, case and signs; a word or a figure says none.

    >>> tells("Note: Action = cut latency; cause = timeout.", '{"cause": "timeout", "action": "cut_latency"}')
    True
    >>> tells("The timeout was 42 ms, so cut latency.", '{"cause": "timeout", "action": "cut_latency"}')
    False
    """
    prompt_letters, (value, _) = _letters(text), read_answer(answer)
    parts = [answer]
    if isinstance(value, dict):
        parts = [f"{name}{json.dumps(item, ensure_ascii=False)}" for name, item in value.items()]
    letters = [_letters(part) for part in parts]
    return sum(map(len, letters)) >= _SAYS and all(letter in prompt_letters for letter in letters)


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def row_of(governed: GovernedSet, dataset: Dataset, record: Mapping[str, Any], line: int) -> Prompt:
    """The training row in one record of a data set, with what the rubric compares its answer with.

    Raises:
        NoRow: its columns do not hold what the manifest says, or its answer does not pass.
    """
    columns = dataset.columns
    prompt, answer = _text(record, columns.prompt), _text(record, columns.answer)
    capability = dataset.capability or _text(record, columns.capability or "")
    if capability not in {scenario.capability for scenario in (*governed.core, *governed.micro)}:
        raise NoRow("other-capability", "its capability is none of the eval set's core")
    reference = answer if columns.reference is None else record.get(columns.reference)
    expected, problem = read_answer(reference) if isinstance(reference, str) else (reference, "")
    if problem or not isinstance(expected, dict):
        raise NoRow("unreadable", f"column {columns.reference or columns.answer!r} holds no JSON object")
    try:
        json.dumps(expected, allow_nan=False)
        right = full_marks(governed.rubric, answer, expected)
    except (InvalidInput, ValueError, TypeError):
        raise NoRow("unreadable", "its reference lacks what the rubric compares") from None
    if not right:
        raise NoRow("fails-rubric", "its answer does not pass the rubric")
    return Prompt(
        messages=(Message(role="user", content=prompt),),
        answer=answer,
        expected=expected,
        rubric=governed.rubric_digest,
        generator=dataset.id,
        template=DATASET,
        points=tuple(point.id for point in governed.rubric.points),
        lineage=Lineage(
            source="dataset",
            capability=capability,
            rubric=governed.rubric_digest,
            manifest=content_digest(dataset),
            line=line,
        ),
    )


def screened(
    offer: Offer,
    beside: Sequence[TrainingRow],
    scored: Sequence[ScoredText],
    limit: float,
    alike: float,
    meaning: Meaning | None = None,
) -> None:
    """Take out of the offer what is too near to a scored text, or to one of the rows ``beside`` or before it."""
    separation = kept_apart(offer.rows, scored, limit, meaning)
    offer.rejected["near-scored"] += len(separation.dropped)
    offer.rows = list(separation.rows)
    if offer.source != "own-sample":
        new = _unlike(offer.rows, beside, alike)
        offer.rejected["near-row"] += len(offer.rows) - len(new)
        offer.rows = new
    offer.rejected = +offer.rejected


def joined(
    rows: Sequence[TrainingRow],
    offers: Sequence[Offer],
    shares: Mapping[PairSource, float],
    capability: Mapping[Slug, Slug],
) -> tuple[TrainingRow, ...]:
    """The rows, some of each capability replaced by what is offered; what finds no room is taken out of the offers.

    Args:
        rows: Of generators, in the order in which they are trained on.
        offers: Sources in the order in which they are asked.
        shares: Largest share of a capability's rows that all offers of a source may replace.
        capability: Of each generator.
    """
    batch = list(rows)
    free: dict[Slug, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        free[capability[row.generator]].append(number)
    room = {
        (source, name): int(share * len(places)) for source, share in shares.items() for name, places in free.items()
    }
    prompts = {row.messages: place for place, row in enumerate(rows)}
    for offer in offers:
        accepted: list[TrainingRow] = []
        for row in offer.rows:
            assert row.lineage
            places, key = free[row.lineage.capability], (offer.source, row.lineage.capability)
            same = prompts.get(row.messages) if offer.source == "own-sample" else None
            spare = places[-1] if places and offer.source != "own-sample" else None
            place = same if same in places else spare
            if place is None or room.get(key, 0) < 1:
                offer.rejected["no-room"] += 1
                continue
            places.remove(place)
            room[key] -= 1
            batch[place] = row
            accepted.append(row)
        offer.rows = accepted
    return tuple(batch)


def asked_first(
    prompts: Sequence[Prompt], share: float, tries: int, capability: Callable[[Prompt], Slug]
) -> tuple[Prompt, ...]:
    """The first prompts of each capability: ``tries`` times as many as a source with this share has room for."""
    total = Counter(map(capability, prompts))
    remaining = {name: tries * int(share * count) for name, count in total.items()}
    chosen_prompts = []
    for prompt in prompts:
        name = capability(prompt)
        if remaining[name] > 0:
            remaining[name] -= 1
            chosen_prompts.append(prompt)
    return tuple(chosen_prompts)


def _unlike(rows: Sequence[TrainingRow], beside: Sequence[TrainingRow], alike: float) -> list[TrainingRow]:
    texts = [_question_text(row) for row in (*beside, *rows)]
    index = Index(texts)
    out = set(range(len(beside), len(texts)))
    for place, search in enumerate(index.searches(texts[len(beside) :]), start=len(beside)):
        if search.nearest(alike, out)[1] < 0:
            out.remove(place)
    return [row for place, row in enumerate(rows, start=len(beside)) if place not in out]


def _question_text(row: TrainingRow) -> str:
    return "\n".join(message.content for message in row.messages)


def _lineage(
    source: PairSource, governed: GovernedSet, prompt: Prompt, clusters: Sequence[FailureCluster], writer: str
) -> Lineage:
    assert source in ("own-sample", "teacher")
    capability = next(generator.capability for generator in governed.generators if generator.id == prompt.generator)
    matching = [
        cluster for cluster in clusters if cluster.capability == capability and set(cluster.points) & set(prompt.points)
    ]
    return Lineage(
        source=source,
        capability=capability,
        rubric=prompt.rubric,
        cluster=matching[0].id if matching else None,
        scenarios=matching[0].cases if matching else (),
        writer=writer,
    )


def _row(prompt: Prompt, messages: tuple[Message, ...], answer: str, lineage: Lineage) -> Prompt:
    return Prompt(
        messages=messages,
        answer=answer,
        generator=prompt.generator,
        template=prompt.template,
        points=prompt.points,
        lineage=lineage,
        expected=prompt.expected,
        rubric=prompt.rubric,
    )


def _text(record: Mapping[str, Any], column: str) -> str:
    value = record.get(column)
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_TEXT:
        raise NoRow("unreadable", f"column {column!r} holds no text of 1 to {LONGEST_TEXT:,} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise NoRow("unreadable", f"column {column!r} holds half of a character, as of an emoji that was cut")
    return value
