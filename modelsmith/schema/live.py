"""What live traffic showed, counted for a specialist and for who served before it, in one window.

`LiveWindow` is one metric as an application reports it by hand; `Counts` is what the front door counts by itself.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction as Exact
from typing import Annotated, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Frozen, Moment, Slug

Count = Annotated[int, Field(ge=0, le=10**15)]
LEAST_SHARE = 1e-6
"""Smallest share of either side that is compared: below it no traffic tells anything."""


class Counted(Frozen):
    """Decisions of one model and how many of them had the good outcome that the metric counts."""

    decisions: Annotated[int, Field(ge=1, le=10**15)]
    good: Annotated[int, Field(ge=0, le=10**15)]
    """Decisions with the outcome: auctions won, frauds stopped."""

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
    """Counts of the incumbent, which served the rest of the traffic."""

    @property
    def drop(self) -> Exact:
        """How far the specialist's rate lies below the incumbent's, relative to it: 0.20 beside 0.25 is 1/5.

        Negative where the specialist is ahead; 0 where the incumbent had no good outcome at all.
        """
        if not self.incumbent.good:
            return Exact(0)
        return 1 - self.specialist.rate / self.incumbent.rate


class Metric(Frozen):
    """Events of one metric in one stage: good or bad outcomes, each unit once, by the arm that was assigned to it."""

    metric: Slug
    specialist: Count
    """Units of the specialist with the event."""
    incumbent: Count
    specialist_known: Count
    """Units of the specialist of which it is known whether the event happened."""
    incumbent_known: Count

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.specialist > self.specialist_known or self.incumbent > self.incumbent_known:
            raise ValueError(f"{self.metric}: more events than units of which they are known")
        return self


class StageCounts(Frozen):
    """One stage: everything that was decided while the specialist had the same share."""

    share: Annotated[float, Field(ge=LEAST_SHARE, le=1 - LEAST_SHARE)]
    specialist: Count
    """Units assigned to the specialist: sticky keys, or decisions where no key is sticky."""
    incumbent: Count
    metrics: Annotated[tuple[Metric, ...], Field(max_length=16)]

    @model_validator(mode="after")
    def _within(self) -> Self:
        names = [metric.metric for metric in self.metrics]
        if len(names) != len(set(names)):
            raise ValueError("a metric is counted twice")
        if any(m.specialist_known > self.specialist or m.incumbent_known > self.incumbent for m in self.metrics):
            raise ValueError("more is known than was decided")
        return self


class Counts(Frozen):
    """What one deployment's window has counted so far; every figure of it is recomputed from this."""

    began: Moment
    """Time of the first decision."""
    ended: Moment
    """Time of the last decision."""
    stages: Annotated[tuple[StageCounts, ...], Field(max_length=64)]

    def until(self, at: datetime) -> Counts:
        """The counts as they stood at a moment: no decision was made later, whatever a clock said when it was made."""
        return self.model_copy(update={"began": min(self.began, at), "ended": min(self.ended, at)})
