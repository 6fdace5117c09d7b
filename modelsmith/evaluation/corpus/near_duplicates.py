"""Scenarios that tell nearly the same case: two of them weigh in the score as one case would with twice the weight.

Compared is a scenario's own wording with every wording of another one; a scenario's variants are near it by design.
Texts are looked at and never shown: a pair is named by the ids of its scenarios.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal

from modelsmith.schema.base import Frozen
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.scenario import Scenario
from modelsmith.texts.similarity import Index

SHOWN = 10
"""Pairs listed of each group."""

Group = Literal["core", "held_out", "held_out_to_core"]
"""Inside core and micro, inside held-out, and from held-out to core and micro."""


class NearPair(Frozen):
    """A scenario and its nearest neighbour."""

    similarity: float
    """0 to 1 (1: the same words); see `texts.similarity`."""
    first: str
    second: str


class NearScenarios(Frozen):
    """How alike the scenarios of one group are."""

    group: Group
    limit: float
    """A pair that is more alike counts as a near-duplicate: the set's ``separation.held_out_to_core``."""
    duplicates: int
    """Pairs of scenario and nearest neighbour above the limit."""
    pairs: tuple[NearPair, ...]
    """The nearest of these pairs, near-duplicates or not, nearest first; at most `SHOWN`."""


def near_duplicates(governed: GovernedSet) -> tuple[NearScenarios, ...]:
    """The nearest scenarios of each group that has two."""
    limit = governed.evalset.separation.held_out_to_core
    open_cases, held_out = [*governed.core, *governed.micro], governed.held_out
    groups: tuple[tuple[Group, Sequence[Scenario], Sequence[Scenario]], ...] = (
        ("core", open_cases, open_cases),
        ("held_out", held_out, held_out),
        ("held_out_to_core", held_out, open_cases),
    )
    return tuple(
        near for name, scenarios, other in groups if (near := nearest_scenarios(name, scenarios, other, limit))
    )


def nearest_scenarios(
    group: Group, scenarios: Sequence[Scenario], others: Sequence[Scenario], limit: float
) -> NearScenarios | None:
    """How alike the scenarios are to the others, which may be they themselves; None without a pair."""
    others = sorted(others, key=lambda item: item.id)
    wordings = [(other.id, text) for other in others for text in other.user_texts()]
    index = Index(text for _, text in wordings)
    own: dict[str, list[int]] = {}
    for place, (name, _) in enumerate(wordings):
        own.setdefault(name, []).append(place)
    scores: dict[tuple[str, str], float] = {}
    least = 0.0
    ordered = sorted(scenarios, key=lambda item: item.id)
    for scenario, search in zip(ordered, index.searches([item.user_texts()[0] for item in ordered]), strict=True):
        score, place = search.nearest(least, own.get(scenario.id, ()))
        if place < 0:
            continue
        name = wordings[place][0]
        pair = (scenario.id, name) if group == "held_out_to_core" else (min(scenario.id, name), max(scenario.id, name))
        scores[pair] = max(score, scores.get(pair, 0.0))
        if len(scores) >= SHOWN:
            least = min(limit, heapq.nlargest(SHOWN, scores.values())[-1])
    if not scores:
        return None
    nearest = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return NearScenarios(
        group=group,
        limit=limit,
        duplicates=sum(score > limit for score in scores.values()),
        pairs=tuple(NearPair(similarity=score, first=pair[0], second=pair[1]) for pair, score in nearest[:SHOWN]),
    )
