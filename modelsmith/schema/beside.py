"""What training leaves to a front door on the same machine: the budget by which it waits."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Frozen


class BesideServing(Frozen):
    """When trainings and evals of a cluster wait for the front doors of their machine, between two steps.

    A door that is beyond any of these is waited for.
    """

    requests: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Most requests that a door has, under way or waiting for their turn; 0: a step begins only while it has none."""
    p95_milliseconds: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    """Most that the 95th percentile of a door's answers of the last half minute takes, to the last token."""
    share: Annotated[float, Field(ge=0.01, lt=1)] | None = None
    """Largest share of the time that steps take while a door answers requests; the rest of it they wait."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.requests is None and self.p95_milliseconds is None and self.share is None:
            raise ValueError("say requests, p95_milliseconds or share, or leave beside_serving out")
        return self
