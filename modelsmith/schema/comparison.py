"""Two runs side by side: what flipped between them, and whether it is more than chance."""

from __future__ import annotations

from typing import Literal

from modelsmith.schema.base import Digest, Frozen, Section, Slug
from modelsmith.schema.run import Estimate


class ScenarioFlip(Frozen):
    """A scenario that one of two compared runs passes and the other fails."""

    section: Section
    id: Slug
    scenario: Digest
    capability: Slug
    critical: bool
    direction: Literal["gained", "lost"]
    """``gained``: the second run passes it and the first does not."""
    points: tuple[Slug, ...]
    """Rubric points that at least one completion decides otherwise."""


class PointFlip(Frozen):
    """How often one rubric point changed between two compared runs, counted in completions."""

    point: Slug
    gained: int
    lost: int


class Comparison(Frozen):
    """Two runs on the same question, the second seen against the first."""

    scenarios: int
    """Core and held-out scenarios that both runs answered: the pairs of the difference and of McNemar's test."""
    composite: tuple[Estimate, Estimate]
    """First and second run."""
    held_out: tuple[Estimate, Estimate]
    """First and second run."""
    difference: Estimate
    """Paired difference of pass rates, second minus first, over core and held-out scenarios."""
    gained: int
    """Pairs that only the second run passes."""
    lost: int
    """Pairs that only the first run passes."""
    mcnemar_p: float
    """Exact two-sided McNemar p value of gained against lost."""
    detectable: float
    """Smallest true difference that these pairs would show in 80 of 100 cases."""
    flips: tuple[ScenarioFlip, ...]
    """In every section, also where scenarios are not paired for the test."""
    point_flips: tuple[PointFlip, ...]
    outcome: Literal["better", "worse", "undecided"]
    """Whether the interval of the difference lies above zero, below it, or spans it."""
    sentence: str
