"""What live traffic showed: one metric, counted for a specialist and for who served before it, in one window."""

from __future__ import annotations

from fractions import Fraction as Exact
from typing import Annotated, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Frozen, Moment, Slug


class Counted(Frozen):
    """Decisions of one model and how many of them had the good outcome that the metric counts."""

    decisions: Annotated[int, Field(ge=1, le=10**15)]
    good: Annotated[int, Field(ge=0, le=10**15)]
    """Decisions with the outcome: auctions won, cases solved."""

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.good > self.decisions:
            raise ValueError(f"good is {self.good}, more than the {self.decisions} decisions")
        return self

    @property
    def rate(self) -> Exact:
        """Part of the decisions with the good outcome, exactly."""
        return Exact(self.good, self.decisions)


class LiveWindow(Frozen):
    """Counts of a live metric from one moment to another, as the application or its monitoring reports them.

    Both models were counted at the same time, so that what the hour does to the metric, it does to both.
    """

    metric: Slug
    """The metric that the rollback contract names."""
    began: Moment
    ended: Moment
    specialist: Counted
    """The deployed specialist."""
    incumbent: Counted
    """Who served the rest of the traffic."""

    @property
    def drop(self) -> Exact:
        """How far the specialist's rate lies below the incumbent's, relative to it: 0.20 beside 0.25 is 1/5.

        Negative where the specialist is ahead; 0 where the incumbent had no good outcome at all.
        """
        if not self.incumbent.good:
            return Exact(0)
        return 1 - self.specialist.rate / self.incumbent.rate
