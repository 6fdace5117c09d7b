"""The firewall between scored texts and training rows: no row may equal or nearly equal what a model is scored on.

Every message of a row counts, and its answer; so does a scored text that stands inside a longer row or is split over
messages. What nearness means is `repository.similarity`'s. Held-out texts are compared and nothing else: neither they
nor their scenarios' names leave this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from modelsmith.points.answers import read_answer
from modelsmith.repository.load import GovernedSet
from modelsmith.repository.similarity import Index
from modelsmith.schema.scenario import Scenario
from modelsmith.schema.training_row import TrainingRow

HELD_OUT: Final = "held-out"
"""Stands for the name of any held-out scenario."""


@dataclass(frozen=True)
class ScoredText:
    """One text that a model is scored on."""

    scenario: str
    """Id of the scenario, or `HELD_OUT`."""
    text: str


class Dropped(NamedTuple):
    """A row that came too near."""

    row: int
    """Position among the rows given."""
    scenario: str
    """Id of the nearest scenario; `HELD_OUT` when it is a held-out one."""
    similarity: float


@dataclass(frozen=True)
class Separation:
    """What passed the firewall and what did not."""

    rows: tuple[TrainingRow, ...]
    """Rows kept, in their order."""
    dropped: tuple[Dropped, ...]
    nearest: float
    """Similarity of the nearest pair of a kept row and a scored text; 0 without rows or texts."""


def scored_texts(governed: GovernedSet) -> tuple[ScoredText, ...]:
    """Every text of the eval set that a model is scored on: wordings, earlier messages and retrieved passages.

    Answers that people labelled count with them: they were written about a scenario, and say what passes. An answer
    that is nothing but what a generator teaches is left out; it would drop every row of that generator.
    """
    asked = [
        ScoredText(name if name else scenario.id, text)
        for scenarios, name in ((governed.core, ""), (governed.micro, ""), (governed.held_out, HELD_OUT))
        for scenario in scenarios
        for text in _texts(scenario)
    ]
    hidden = {scenario.id for scenario in governed.held_out}
    taught = [generator.reference for generator in governed.generators]
    labelled = [
        ScoredText(HELD_OUT if label.scenario in hidden else label.scenario, label.answer)
        for label in governed.labels
        if read_answer(label.answer)[0] not in taught
    ]
    return (*asked, *labelled)


def separate(rows: Sequence[TrainingRow], texts: Iterable[ScoredText], limit: float) -> Separation:
    """Drop every row whose similarity to a scored text is ``limit`` or more."""
    scored = tuple(texts)
    index = Index([text.text for text in scored])
    kept: list[TrainingRow] = []
    dropped: list[Dropped] = []
    nearest = 0.0
    for position, row in enumerate(rows):
        similarity, place = max(index.nearest(probe) for probe in _probes(row))
        if place >= 0 and similarity >= limit:
            dropped.append(Dropped(position, scored[place].scenario, similarity))
        else:
            kept.append(row)
            nearest = max(nearest, similarity)
    return Separation(tuple(kept), tuple(dropped), nearest)


def _texts(scenario: Scenario) -> tuple[str, ...]:
    conversations = ("\n".join(message.content for message in wording) for wording in scenario.wordings())
    return tuple(dict.fromkeys([*conversations, *(passage.text for passage in scenario.context)]))


def _probes(row: TrainingRow) -> tuple[str, str]:
    """The conversation, and the conversation with its answer, in which a scored text may hide."""
    conversation = "\n".join(message.content for message in row.messages)
    return conversation, f"{conversation}\n{row.answer}"
