"""Generators: declared templates that make training rows for failed rubric points."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from modelsmith.schema.base import Frozen, Slug


class Template(Frozen):
    """A user message with ``{slot}`` places."""

    id: Slug
    user: str = Field(min_length=1)
    """The text; ``{name}`` is replaced by a value of that slot."""


class Generator(Frozen):
    """Training rows for one capability. The assistant's turn of a row is ``reference`` as compact JSON."""

    id: Slug
    capability: Slug
    """Capability whose failures call for these rows."""
    points: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Rubric points that these rows teach."""
    description: str
    reference: dict[str, JsonValue]
    """The right answer to every row of this generator."""
    slots: dict[Slug, Annotated[tuple[str, ...], Field(min_length=2)]]
    """Values for each slot."""
    templates: Annotated[tuple[Template, ...], Field(min_length=1)]
