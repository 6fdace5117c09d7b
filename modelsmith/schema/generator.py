"""Generators: declared templates that make training rows for failed rubric points."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, JsonValue

from modelsmith.schema.base import Frozen, Slug

SLOT: Final = re.compile(r"\{([a-z0-9][a-z0-9._-]*)\}")
"""A place in a template, in a text of the reference, or in an answer."""

SlotValue = str | int | float
Values = Mapping[str, SlotValue]


class Template(Frozen):
    """A user message with ``{slot}`` places."""

    id: Slug
    user: str = Field(min_length=1)
    """The text; ``{name}`` is replaced by a value of that slot."""


class Generator(Frozen):
    """Training rows for one capability.

    The assistant's turn of a row is ``answer``, or without one ``reference`` as compact JSON. Both may have ``{slot}``
    places, which hold what the row's message holds there; so one generator teaches as many answers as it has values.
    """

    id: Slug
    capability: Slug
    """Capability whose failures call for these rows."""
    points: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Rubric points that these rows teach."""
    description: str
    reference: dict[str, JsonValue]
    """The right answer to every row of this generator, field by field; a text that is one ``{slot}`` and nothing else
    becomes the slot's value, a number too."""
    answer: str | None = Field(default=None, min_length=1)
    """The assistant's turn as plain text, for a rubric that does not ask for JSON."""
    slots: dict[Slug, Annotated[tuple[SlotValue, ...], Field(min_length=2)]]
    """Values for each slot, texts or numbers."""
    templates: Annotated[tuple[Template, ...], Field(min_length=1)]

    def places(self) -> set[str]:
        """Slots that the right answer names."""
        return set(SLOT.findall(self.answer or "")) | _places(self.reference)

    def first_values(self) -> dict[str, SlotValue]:
        """Each slot's first value: an example of what is taught."""
        return {name: options[0] for name, options in self.slots.items()}

    def filled(self, values: Values) -> dict[str, JsonValue]:
        """The right answer, field by field, for a row with these values."""
        return {name: _filled(value, values) for name, value in self.reference.items()}

    def turn(self, values: Values) -> str:
        """The assistant's turn for a row with these values."""
        if self.answer is not None:
            return filled_text(self.answer, values)
        return json.dumps(self.filled(values), ensure_ascii=False)


def filled_text(text: str, values: Values) -> str:
    """The text with a value in each place; a place that names no slot stays as it is."""
    return SLOT.sub(lambda match: str(values.get(match[1], match[0])), text)


def _filled(value: JsonValue, values: Values) -> JsonValue:
    if isinstance(value, dict):
        return {name: _filled(item, values) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if not isinstance(value, str):
        return value
    slot = SLOT.fullmatch(value)
    return values.get(slot[1], value) if slot else filled_text(value, values)


def _places(value: JsonValue) -> set[str]:
    if isinstance(value, str):
        return set(SLOT.findall(value))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for item in inner for name in _places(item)}
