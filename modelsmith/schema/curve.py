"""How a training went, as figures: what its pictures are drawn from. No text fits in it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Frozen

Measure = Literal["loss", "reward", "held_in", "content", "kl", "entropy", "length"]
"""Loss of a step; of answers that are rewarded: mean reward, greedy score on the prompts set aside, mean reward by the
points of content alone, nats a token from where the stage began, nats a token that answers vary, and their tokens."""
SHARES: Final[tuple[Measure, ...]] = ("reward", "held_in", "content")
"""Measures from 0 to 1."""
MOST_POINTS: Final = 100
"""Points of a line; of a longer one, as many steps are kept at even distances."""

Point = tuple[Annotated[int, Field(ge=0, le=10**9)], Annotated[float, Field(ge=-1e9, le=1e9)]]
"""Step and value. Step 0 is before the first."""


class CurveLine(Frozen):
    """One measure over the steps."""

    measure: Measure
    points: Annotated[tuple[Point, ...], Field(min_length=1, max_length=MOST_POINTS)]
    """Step and value of each point, by step."""

    @model_validator(mode="after")
    def _goes_forward(self) -> Self:
        if any(point[0] >= other[0] for point, other in pairwise(self.points)):
            raise ValueError("the points of a line go from step to step")
        if self.measure in SHARES and not all(0 <= value <= 1 for _, value in self.points):
            raise ValueError(f"{self.measure} lies between 0 and 1")
        return self


class StageCurve(Frozen):
    """Measurements of one stage of a training."""

    stage: Annotated[int, Field(ge=1)]
    """Number of the stage, counted from 1."""
    lines: Annotated[tuple[CurveLine, ...], Field(min_length=1)]
    """Each measure once at most."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        measures = [line.measure for line in self.lines]
        if len(set(measures)) != len(measures):
            raise ValueError("a measure has one line")
        return self

    @property
    def last_step(self) -> int:
        """The last step that any line tells of."""
        return max(line.points[-1][0] for line in self.lines)
