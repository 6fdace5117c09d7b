"""Scenarios: what a specialist is asked, and what a right answer is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from modelsmith.schema.base import Frozen, Slug


class Message(Frozen):
    """One turn of the conversation that the model sees."""

    role: Literal["user", "assistant"]
    """Who speaks. The system prompt belongs to the eval set, not to a scenario."""
    content: str = Field(min_length=1)
    """The text of the message."""


class Passage(Frozen):
    """A retrieved text that the workflow puts in front of the question."""

    source: str
    """Where the passage comes from (a log, a runbook), as shown to the model."""
    text: str = Field(min_length=1)
    """The passage itself."""


class Criterion(Frozen):
    """What passing and failing one rubric point means in this case, in words a domain owner can defend."""

    point: Slug
    """Id of the rubric point."""
    pass_: str = Field(alias="pass", min_length=1)
    """What a right answer recognises here."""
    fail: str = Field(min_length=1)
    """The tempting wrong answer and why it is wrong."""


class Scenario(Frozen):
    """One governed case: a file under ``scenarios/``, ``held_out/`` or ``micro/``, in the folder of its capability."""

    id: Slug
    """Unique in the eval set; equals the file's name."""
    capability: Slug
    """The skill under test; equals the folder."""
    risk: Literal["low", "medium", "high"]
    """Damage when the answer is wrong."""
    operator_lens: Slug
    """Whose question it is (nurse, trader, fraud analyst, ...)."""
    outcome_type: Slug
    """The kind of business outcome at stake."""
    critical: bool = False
    """A critical scenario must pass (`DecisionRule.critical_pass`) and must never be lost."""
    context: tuple[Passage, ...] = ()
    """Retrieved passages, put before the first message."""
    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    """The conversation; the last message is the user's."""
    reference: dict[str, JsonValue]
    """The right answer, field by field; rubric checks refer to it."""
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    """Pass and fail in words, per rubric point."""
    variants: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=100)] = ()
    """Rephrasings of the last user message; same facts, other words."""

    def wordings(self) -> tuple[tuple[Message, ...], ...]:
        """The conversation in its own wording first, then once for each variant."""
        *before, last = self.messages
        texts = (last.content, *self.variants)
        return tuple((*before, Message(role="user", content=text)) for text in texts)

    def user_texts(self) -> list[str]:
        """Every wording as one text: what its users say, a line for each message; retrieved context left out."""
        return ["\n".join(m.content for m in wording if m.role == "user") for wording in self.wordings()]
