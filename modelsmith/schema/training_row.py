"""Training rows: what a specialist is shown, and which declared template made it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.schema.base import Frozen, Slug
from modelsmith.schema.scenario import Message


class TrainingRow(Frozen):
    """One example. It holds no scored text: the firewall has compared it with every scenario."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    """The conversation, without the eval set's system prompt; the last message is the user's."""
    answer: str = Field(min_length=1)
    """The right answer, worth full marks under the rubric."""
    generator: Slug
    """Generator that made the row."""
    template: Slug
    """Template of that generator."""
    points: tuple[Slug, ...]
    """Rubric points that the row teaches."""
