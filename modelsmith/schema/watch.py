"""The registered rule by which a deployment is watched: what counts as worse, how much of it is allowed, how sure.

It is part of the rollback contract that people approve with a deployment. All of it is fixed before the first request.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Frozen, Slug

Allowed = Annotated[float, Field(ge=1e-6, le=1 - 1e-6)]
Better = Literal["higher", "lower"]
GUARDS: Final = ("errors", "slow", "format")
"""Metrics that the door measures itself; an application reports none of them."""


class Outcome(Frozen):
    """A further metric that the application reports, 1 or 0 for each decision."""

    better: Better = "higher"
    """Whether more of it is good (wins) or bad (complaints)."""
    max_loss: Allowed
    """Largest loss, relative to the incumbent's rate: 0.04 allows 0.24 beside 0.25 of a good thing, 0.26 of a bad one.
    """


class Guard(Frozen):
    """A share of answers that must not rise: of errors, or of answers that break the rubric's format."""

    max_rise: Allowed
    """Largest rise in points above the incumbent's share: 0.02 allows 3 % beside 1 %."""


class Budget(Guard):
    """A latency budget: which answers are slow, and by how much their share may rise. 0.05 keeps the p95 within it."""

    milliseconds: Annotated[float, Field(gt=0, le=3_600_000)]
    """An answer whose last token comes later than this is slow."""


class Rule(Frozen):
    """How live traffic is judged: at once when it is worse, and at the window's end whether a loss is excluded."""

    better: Better = "higher"
    """Whether more of the contract's ``metric`` is good."""
    outcomes: Annotated[dict[Slug, Outcome], Field(max_length=8)] = {}
    """Further metrics that the application reports."""
    errors: Guard | None = None
    """Answers that failed, timed out, or that the incumbent gave in the specialist's place."""
    slow: Budget | None = None
    """Answers beyond a latency budget."""
    format: Guard | None = None
    """Sampled answers that break the format checks of the rubric."""
    least_decisions: Annotated[int, Field(ge=1, le=10**9)] = 100
    """On each side; with fewer nothing is decided, either way."""
    error_probability: Annotated[float, Field(ge=1e-9, le=0.2)] = 0.05
    """Of sending traffic back although nothing is worse, over the whole window and all metrics together; and of
    confirming although a loss beyond the allowed one is there. However often it is looked at."""
    late_minutes: Annotated[int, Field(ge=1, le=100_000)] = 60
    """How long after its decision a report is taken."""
    decisions_per_minute: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Traffic that the cluster expects, each sticky key once. `validate` says from it what loss a window can see."""
    expected_rate: Allowed | None = None
    """Rate of the contract's ``metric`` that the incumbent is expected to have; goes with ``decisions_per_minute``."""

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        reserved = sorted(set(self.outcomes) & set(GUARDS))
        if reserved:
            raise ValueError(f"{reserved[0]} is what the door measures itself, so no outcome can have that name")
        return self

    @model_validator(mode="after")
    def _traffic_is_whole(self) -> Self:
        if (self.decisions_per_minute is None) != (self.expected_rate is None):
            raise ValueError("decisions_per_minute and expected_rate go together")
        return self
