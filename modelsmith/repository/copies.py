"""Wordings of a set that repeat one another. Pure.

A repeated wording asks nothing new and yet counts; where the right answers differ, nobody can be right on both. Only
what is the same but for case, blanks and, inside one scenario, punctuation is a copy: near ones may be meant so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from modelsmith.normal_form import normalized
from modelsmith.points.answers import same
from modelsmith.repository.document import Location, Problem
from modelsmith.repository.set_files import SetFiles, Source
from modelsmith.schema.scenario import Scenario

_WORD = re.compile(r"\w+")
_Question = tuple[tuple[str, ...], str]
"""What stands before the last message, and that message."""


def copies(files: SetFiles) -> Iterator[Problem]:
    """Every repetition, at the later of the two or at the variant; a scenario that copies another one is named once."""
    limit = files.evalset.value.separation.held_out_to_core if files.evalset else 1.0
    hidden = {id(source) for source in files.scenarios["held_out"]}
    sources = [source for part in files.scenarios.values() for source in part]
    for source in sources:
        yield from _inside(source)
    first: dict[_Question, Source[Scenario]] = {}
    reported: set[tuple[str, str]] = set()
    for source, number, texts in _wordings(sources):
        other = first.setdefault(texts, source)
        pair = (source.value.id, other.value.id)
        kept_apart = (id(source) in hidden) != (id(other) in hidden) and limit < 1  # said by what keeps these two apart
        if other is not source and pair not in reported and not kept_apart:
            reported.add(pair)
            yield _copied(source, number, other)


def _wordings(sources: Sequence[Source[Scenario]]) -> Iterator[tuple[Source[Scenario], int, _Question]]:
    """Own wordings before variants, so that of a note and a variant the variant is the copy."""
    before = [_texts_before(source.value) for source in sources]
    for source, before_text in zip(sources, before, strict=True):
        yield source, 0, (before_text, _plain(source.value.messages[-1].content))
    for source, before_text in zip(sources, before, strict=True):
        for number, variant in enumerate(source.value.variants, start=1):
            yield source, number, (before_text, _plain(variant))


def _inside(source: Source[Scenario]) -> Iterator[Problem]:
    """Variants that are no rephrasings."""
    own = _words(source.value.messages[-1].content)
    numbers: dict[tuple[str, ...], int] = {}
    for number, variant in enumerate(source.value.variants):
        words = _words(variant)
        earlier = numbers.setdefault(words, number)
        if words == own:
            message = "this variant is the scenario's own wording"
        elif earlier != number:
            message = f"this variant is variants[{earlier}] again"
        else:
            continue
        yield source.problem(("variants", number), message, "Tell the same facts in other words, or remove it.")


def _copied(source: Source[Scenario], wording: int, other: Source[Scenario]) -> Problem:
    last: Location = ("messages", len(source.value.messages) - 1, "content")
    at: Location = ("variants", wording - 1) if wording else last
    if same(source.value.reference, other.value.reference):
        message = f"this is also asked by {other.path}, so one case would count twice"
        return source.problem(at, message, "Tell another case, or remove one of the two.")
    message = f"this is also asked by {other.path}, where another answer is right: nobody can be right on both"
    return source.problem(at, message, "Correct the text, or the reference of one of the two.")


def _texts_before(scenario: Scenario) -> tuple[str, ...]:
    passages = (f"{passage.source}\n{passage.text}" for passage in scenario.context)
    return (
        *map(_plain, passages),
        *(f"{message.role}\n{_plain(message.content)}" for message in scenario.messages[:-1]),
    )


def _plain(text: str) -> str:
    return " ".join(normalized("NFC", text).casefold().split())


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(_plain(text)))
