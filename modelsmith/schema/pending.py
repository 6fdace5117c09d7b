"""Pending cases: what went wrong somewhere and nobody has judged yet. They may be looked at, and never score."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import EvalSetName, Frozen, Share, Slug
from modelsmith.schema.promotion import SpecialistId
from modelsmith.schema.scenario import Message


class Neighbour(Frozen):
    """A core or micro scenario that a pending case is like."""

    scenario: Slug
    similarity: Share
    """Of the words; the cosine, where policy named an embedding model."""


class Answered(Frozen):
    """Whose answer a failure of production was, as the front door decided it."""

    by: SpecialistId | Literal["base"]
    """The model that the request was assigned to."""
    decision: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Digest of the decision's id: whoever has the id can tell that it is this one, and nobody else learns anything."""


class Pending(Frozen):
    """One line of ``evals/<domain>/pending/*.jsonl``: a failure that waits for the domain lead."""

    id: Slug
    """``case-`` and twelve hex digits of what was asked: ours, never the record's own."""
    set: EvalSetName
    """Eval set that it could become part of."""
    source: Literal["production"]
    """Captured from records. A run stages nothing: what it asks is scored or trained on already."""
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=100)]
    """The conversation, with what policy calls private taken out."""
    answer: str
    """The model's answer, cleaned likewise."""
    outcome: str
    """What went wrong, in the words of who noted it; with ``answered``, the bad outcomes that were reported."""
    seen: Annotated[int, Field(ge=1)] = 1
    """Records that asked the same."""
    capability: Slug | None = None
    """Capability of its nearest scenario; a guess."""
    nearest: Annotated[tuple[Neighbour, ...], Field(max_length=3)] = ()
    """Nearest first; empty for a novel case, which is near none."""
    removed: dict[Slug, Annotated[int, Field(ge=1)]] = {}
    """What was taken out before it was written, by kind."""
    answered: Annotated[tuple[Answered, ...], Field(max_length=16, exclude_if=lambda value: not value)] = ()
    """Decisions of the front door, where records named them; the first of many."""
