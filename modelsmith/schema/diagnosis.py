"""Diagnosis: what fails together, and what the next training run should aim at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import Frozen, Share, Slug

Severity = Literal["high", "medium", "low"]


class Confusion(Frozen):
    """One wrong value that was given instead of the right one."""

    field: str
    """Dotted path of the field in the answer."""
    given: str | None
    """The value given; None when it is none of the values that the eval set or its generators know."""
    right: str
    """The value that the references ask for."""
    cases: Annotated[int, Field(ge=1)]
    """Failed cases in which it was given at least once."""


class Missed(Frozen):
    """Failed cases that miss exactly these rubric points."""

    points: Annotated[tuple[Slug, ...], Field(min_length=1)]
    cases: Annotated[int, Field(ge=1)]


class FailureCluster(Frozen):
    """Failed scenarios of one capability that share a cause.

    That is the answer's form, where it cannot be read, else the weightiest rubric point that they miss: what else they
    miss usually follows from it.
    """

    capability: Slug
    points: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Rubric points that any of these cases misses, in the rubric's order."""
    missed: Annotated[tuple[Missed, ...], Field(min_length=1)]
    """How the cases divide by the points that each misses, most cases first."""
    operator_lenses: dict[Slug, int]
    """Failed cases by operator lens, most first."""
    failed_cases: Annotated[int, Field(ge=1)]
    """Scenarios that miss a point in at least one wording or repeat."""
    total_cases: Annotated[int, Field(ge=1)]
    """Scenarios of this capability that were asked."""
    critical_cases: Annotated[int, Field(ge=0)]
    """Failed cases that must never regress."""
    cut_off_cases: Annotated[int, Field(ge=0)] = 0
    """Failed cases with a failed answer that reached ``max_new_tokens`` before the model ended it."""
    risk_share: Share
    """Failed share of the capability's cases, each weighted by its risk (low 1, medium 2, high 3)."""
    severity: Severity
    confusions: tuple[Confusion, ...]
    """Wrong values, most frequent first."""
    pattern: str
    """What goes wrong, in one sentence without any of the model's own text."""
    reviewer_action: str
    """What a person should do about it, if anything."""
    next_target: str
    """What the next training run aims at."""
    cases: tuple[Slug, ...]
    """Ids of the failed scenarios."""
