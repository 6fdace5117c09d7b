"""Labels: what people say about answers, so that a judge model can be measured against them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel

from modelsmith.schema.base import Frozen, Slug


class Label(Frozen):
    """One answer to one scenario, and what a person says about one judged rubric point of it."""

    scenario: Slug
    """Id of the scenario that the answer is for."""
    point: Slug
    """Id of the judged rubric point."""
    answer: str = Field(min_length=1, max_length=4096)
    """The answer, as a model might write it."""
    verdict: Literal["pass", "fail"]
    """The verdict of a person who knows the rubric."""
    by: str | None = None
    """The person who gave the verdict; no identity depends on it."""


class Labels(RootModel[Annotated[tuple[Label, ...], Field(min_length=1)]]):
    """``labels/*.yaml``: a list of labelled answers."""

    model_config = ConfigDict(frozen=True, strict=True, defer_build=True)
