"""Whether held-out texts stay apart from core and micro texts, within a budget. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modelsmith.repository.document import Location, Problem
from modelsmith.repository.set_files import NearestPair, Part, SetFiles, Spent
from modelsmith.schema.figures import format_apart
from modelsmith.schema.scenario import Scenario
from modelsmith.texts.similarity import Index

MAX_WORDINGS = 1024 * 1024
"""Letters of all wordings of a scenario together; each variant repeats the conversation before it."""

MAX_COMPARED = 4 * 10**11
"""Letters of held-out texts times letters of core texts that one check of a repository compares: about 20 seconds."""
LEAST_COMPARED = 80
"""Letters that a text counts for at least, since many short ones take as long as fewer long ones: each pair costs."""


def too_near(files: SetFiles, limit: float, spent: Spent) -> Iterator[Problem]:
    """Held-out texts that are more alike to a core or micro text than ``limit``; ``files.nearest`` is the nearest pair.

    Texts that are too many, or too long, are refused before they are compared.
    """
    held_out, core_cases, micro = (
        [source for source in files.scenarios[part] if is_comparable(source.value)] for part in _COMPARED
    )
    asked = [*core_cases, *micro]
    held = [(source, i, text) for source in held_out for i, text in enumerate(source.value.user_texts())]
    core = [(source, text) for source in asked for text in source.value.user_texts()]
    if not held or not core:
        return
    spent.compared += compared(text for *_, text in held) * compared(text for _, text in core)
    if spent.compared > MAX_COMPARED:
        yield Problem(
            files.folder,
            None,
            "",
            "its held-out texts and its core texts are too many, or too long, to be compared with each other",
            "Make either fewer or shorter.",
        )
        return
    index = Index(text for _, text in core)
    found: list[tuple[float, int]] = []
    least = 0.0
    for search in index.searches([text for *_, text in held]):
        found.append(search.nearest(least))
        least = max(least, min(limit, found[-1][0]))
    i = max(range(len(held)), key=lambda place: found[place][0])
    score, j = found[i]
    files.nearest = NearestPair(score, limit, held[i][0].value.id, core[j][0].value.id)
    for (source, wording, _), (score, j) in zip(held, found, strict=True):
        if score > limit:
            alike, allowed = format_apart(score, limit, 2)
            last: Location = ("messages", len(source.value.messages) - 1, "content")
            yield source.problem(
                ("variants", wording - 1) if wording else last,
                f"this held-out text is too near to {core[j][0].path} (similarity {alike}, allowed {allowed})",
                "Tell another case, or move the scenario out of held_out/.",
            )


def compared(texts: Iterable[str]) -> int:
    """What comparing these texts costs, in letters: times the same of those they are compared with."""
    return sum(LEAST_COMPARED + len(text) for text in texts)


_COMPARED: tuple[Part, ...] = ("held_out", "scenarios", "micro")


def is_comparable(scenario: Scenario) -> bool:
    """Whether all wordings can be laid side by side."""
    *before, last = (len(message.content) for message in scenario.messages)
    return (1 + len(scenario.variants)) * sum(before) + last + sum(map(len, scenario.variants)) <= MAX_WORDINGS
