"""The firewall between scored texts and training rows: no row may equal or nearly equal what a model is scored on.

Like is compared with like. What a model is asked stands against the whole row, its answer included: a scored text that
stands inside a longer row or is split over messages counts too. An answer that people labelled stands against the row's
answer, and of both only what is in somebody's own words: all right answers have names and labels in common.
What nearness means is `texts.similarity`'s. Held-out texts are compared and nothing else: neither they nor their
scenarios' names leave this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from pydantic import JsonValue

from modelsmith.points.answers import read_answer
from modelsmith.schema.base import ScoredPart
from modelsmith.schema.governance import Policy
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.scenario import Scenario
from modelsmith.schema.training_row import TrainingRow
from modelsmith.texts.similarity import Index, Search, words_of

HELD_OUT: Final = "held-out"
"""Stands for the name of any held-out scenario."""
OWN_WORDS: Final = 8
"""A text of an answer with fewer words than this says nothing of its own: `Timeout.`, or a label of the rubric."""

Kind = Literal["question", "answer"]
Row = TypeVar("Row", bound=TrainingRow)


@dataclass(frozen=True)
class ScoredText:
    """One text that a model is scored on."""

    scenario: str
    """Id of the scenario, or `HELD_OUT`."""
    text: str
    kind: Kind = "question"
    """``answer``: what people labelled."""
    part: ScoredPart = "core"
    """Part of the set that the certificate counts it under."""


class Dropped(NamedTuple):
    """A row and the scored text that it comes nearest to; where a limit was given, too near."""

    row: int
    """Position among the rows given."""
    scenario: str
    """Id of the nearest scenario; `HELD_OUT` when it is a held-out one."""
    kind: Kind
    """Which part of that scenario it is near to."""
    text: str
    """The nearest text; empty when it is a held-out scenario's."""
    similarity: float
    """Of the words; the cosine, where it is near by meaning."""
    by: Literal["words", "meaning"] = "words"


@dataclass(frozen=True)
class Separation(Generic[Row]):
    """Rows that passed the firewall, and those that it dropped."""

    rows: tuple[Row, ...]
    """Rows kept, in their order."""
    dropped: tuple[Dropped, ...]
    nearest: float
    """Similarity of the nearest pair of a kept row and a scored text; 0 without rows or texts."""
    nearest_to: int = -1
    """Position of that scored text among those given; -1 where no kept row has anything in common with any."""


def most_alike(governed: GovernedSet, policy: Policy | None) -> float:
    """Similarity that no row may reach: the eval set's limit, or policy's where that is stricter.

    The gate holds both against the certificate; a row between them would cost a training that it then refuses.
    """
    own = float(governed.evalset.separation.training_to_scored)
    return min(own, policy.firewall.most_similarity) if policy and policy.firewall else own


def scored_texts(governed: GovernedSet) -> tuple[ScoredText, ...]:
    """Every text of the eval set that a model is scored on: wordings, earlier messages and retrieved passages.

    What people wrote in answers that they labelled counts with them: it was written about a scenario, and says what
    passes. What a generator teaches in the same words is left out; it would drop every row of that generator.
    """
    sections: dict[ScoredPart, tuple[Scenario, ...]] = {
        "core": governed.core,
        "micro": governed.micro,
        "held_out": governed.held_out,
    }
    questions = [
        ScoredText(HELD_OUT if part == "held_out" else scenario.id, text, part=_part(part, variant))
        for part, scenarios in sections.items()
        for scenario in scenarios
        for text, variant in _texts(scenario).items()
    ]
    hidden = {scenario.id for scenario in governed.held_out}
    taught = {text for generator in governed.generators for text in own_words(generator.turn(generator.first_values()))}
    labelled = [
        ScoredText(HELD_OUT if label.scenario in hidden else label.scenario, text, "answer", "labels")
        for label in governed.labels
        for text in own_words(label.answer)
        if text not in taught
    ]
    return (*questions, *labelled)


def separate(rows: Sequence[Row], texts: Iterable[ScoredText], limit: float) -> Separation[Row]:
    """Drop every row whose similarity to a scored text is ``limit`` or more."""
    text_list = [*texts]
    scored = Scored(text_list)
    rows_kept: list[Row] = []
    dropped: list[Dropped] = []
    nearest, nearest_text = 0.0, None
    for position, (row, search) in enumerate(zip(rows, scored.searches(rows), strict=True)):
        near, similarity = search(min(limit, nearest))
        if near is not None and similarity >= limit:
            dropped.append(dropped_for(position, near, similarity))
        else:
            rows_kept.append(row)
            if similarity > nearest:
                nearest, nearest_text = similarity, near
    return Separation(
        tuple(rows_kept), tuple(dropped), nearest, -1 if nearest_text is None else text_list.index(nearest_text)
    )


def nearest_rows(rows: Sequence[TrainingRow], texts: Iterable[ScoredText], most: int) -> tuple[Dropped, ...]:
    """The rows that come nearest to a scored text, and to which, nearest first; at most ``most`` of them."""
    scored, nearest = Scored(texts), list[Dropped]()
    for position, search in enumerate(scored.searches(rows)):
        near, similarity = search(nearest[-1].similarity if len(nearest) == most else 0.0)
        if near is not None:
            nearest.append(dropped_for(position, near, similarity))
            nearest = sorted(nearest, key=lambda item: -item.similarity)[:most]
    return tuple(nearest)


class Scored:
    """Scored texts prepared for many comparisons, like with like."""

    def __init__(self, texts: Iterable[ScoredText]) -> None:
        """Prepare the texts."""
        scored = [*texts]
        self._answers = [text for text in scored if text.kind == "answer"]
        self._questions = [text for text in scored if text.kind != "answer"]
        self._of_answers = Index([text.text for text in self._answers])
        self._of_questions = Index([text.text for text in self._questions])

    def nearest(self, row: TrainingRow, least: float) -> tuple[ScoredText | None, float]:
        """The scored text nearest to the row, and how near; None when none reaches ``least``."""
        return next(self.searches([row]))(least)

    def searches(self, rows: Sequence[TrainingRow]) -> Iterator[Callable[[float], tuple[ScoredText | None, float]]]:
        """For each row, in their order, what `nearest` gives by ``least``; many rows are prepared together."""
        probes, answers = [_probes(row) for row in rows], [own_words(row.answer) for row in rows]
        of_questions = self._of_questions.searches([probe for some in probes for probe in some])
        of_answers = self._of_answers.searches([text for some in answers for text in some])
        for some, texts in zip(probes, answers, strict=True):
            question_searches, answer_searches = [*islice(of_questions, len(some))], [*islice(of_answers, len(texts))]
            yield partial(self._nearest, question_searches, answer_searches)

    def _nearest(
        self, question_searches: Sequence[Search], answer_searches: Sequence[Search], least: float
    ) -> tuple[ScoredText | None, float]:
        matches = [(self._questions, search.nearest(least)) for search in question_searches]
        matches += [(self._answers, search.nearest(least)) for search in answer_searches]
        group, (similarity, place) = max(matches, key=lambda match: match[1])
        return (group[place] if place >= 0 else None), similarity


class Loss(NamedTuple):
    """How many rows of one generator the firewall drops, and the nearest of them."""

    generator: str
    rows: int
    """Rows that it made."""
    dropped: int
    template: str
    """Template of its nearest row."""
    nearest: Dropped

    @property
    def sentence(self) -> str:
        """The loss for people; of a held-out scenario only that it is one."""
        near = self.nearest
        whose = "a held-out scenario" if near.scenario == HELD_OUT else f"{near.scenario} ({_begin(near.text)})"
        relation = "a labelled answer to" if near.kind == "answer" else "what is asked in"
        where = "its answer" if near.kind == "answer" else f"template {self.template}"
        return (
            f"{self.generator}: {self.dropped} of {self.rows} rows are too near to scored texts; "
            f"{where} is {near.similarity:.2f} like {relation} {whose}{', by meaning' if near.by == 'meaning' else ''}"
        )


def losses(rows: Sequence[Row], separation: Separation[Row]) -> tuple[Loss, ...]:
    """Losses of the generators, the largest share first."""
    by_generator: dict[str, list[Dropped]] = {}
    for dropped in separation.dropped:
        by_generator.setdefault(rows[dropped.row].generator, []).append(dropped)
    losses_by_generator = []
    for generator, drops in by_generator.items():
        worst = max(drops, key=lambda drop: drop.similarity)
        total = sum(row.generator == generator for row in rows)
        losses_by_generator.append(Loss(generator, total, len(drops), rows[worst.row].template, worst))
    return tuple(sorted(losses_by_generator, key=lambda loss: (-loss.dropped / loss.rows, loss.generator)))


def dropped_for(row: int, near: ScoredText, similarity: float, by: Literal["words", "meaning"] = "words") -> Dropped:
    """The row at this place with the text that it is near to, which is kept back where it is held out."""
    return Dropped(row, near.scenario, near.kind, "" if near.scenario == HELD_OUT else near.text, similarity, by)


def _begin(text: str) -> str:
    words = " ".join(text.split())
    return f"'{words if len(words) <= 80 else words[:77] + '...'}'"


def _part(part: ScoredPart, variant: bool) -> ScoredPart:
    return "variants" if variant and part != "held_out" else part


def _texts(scenario: Scenario) -> dict[str, bool]:
    """Each text of the scenario once, and whether it is the text of a variant."""
    conversations = ["\n".join(message.content for message in wording) for wording in scenario.wordings()]
    is_inner: dict[str, bool] = {}
    for number, text in enumerate([*conversations, *(passage.text for passage in scenario.context)]):
        is_inner.setdefault(text, 0 < number < len(conversations))
    return is_inner


def _probes(row: TrainingRow) -> tuple[str, str]:
    """The conversation, and the conversation with its answer, in which a scored text may hide."""
    conversation = "\n".join(message.content for message in row.messages)
    return conversation, f"{conversation}\n{row.answer}"


def own_words(answer: str) -> tuple[str, ...]:
    """What of an answer is in somebody's own words: the sentences in its JSON, or all of it where it is none."""
    value, problem = read_answer(answer)
    return tuple(_sentences(answer if problem else value))


def _sentences(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str) and len(words_of(value)) >= OWN_WORDS:
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.values() for text in _sentences(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in _sentences(item))
