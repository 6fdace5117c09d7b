"""Training rows: what a specialist is shown, and where each comes from. What a row is depends on the method."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from modelsmith.schema.base import Digest, Frozen, Slug
from modelsmith.schema.scenario import Message

PairSource = Literal["generator", "own-sample", "teacher", "dataset"]
"""Whose answer is taught: a declared generator's, the model's own passing one, a teacher's, a data set's."""


class Lineage(Frozen):
    """Where a row comes from that no declared generator wrote, and why it was kept."""

    source: Literal["own-sample", "teacher", "dataset"]
    capability: Slug
    rubric: Digest
    """The rubric that its answer passed."""
    cluster: Slug | None = None
    """The failure cluster that called for it."""
    scenarios: tuple[Slug, ...] = ()
    """Failed scenarios that called for it; no text of theirs is in it."""
    writer: Digest | None = None
    """Weights that wrote it; of an endpoint, the digest that stands for unknown ones."""
    manifest: Digest | None = None
    """Digest of what the data set's manifest says; only for a row of a data set."""
    line: Annotated[int, Field(ge=1)] | None = None
    """Line of the data set, counted from 1; of a Parquet file, the row."""

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        dataset = self.source == "dataset"
        if ((self.manifest is not None), (self.line is not None), (self.writer is not None)) != (
            dataset, dataset, not dataset
        ):  # fmt: skip
            raise ValueError("a data set's row has a manifest and a line, and any other a writer")
        return self


class TrainingRow(Frozen):
    """One example, for supervised fine-tuning.

    It holds no scored text: the firewall has compared it with every scenario.
    """

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    """The conversation, without the eval set's system prompt; the last message is the user's."""
    answer: str = Field(min_length=1)
    """The right answer, worth full marks under the rubric."""
    generator: Slug
    """Generator that made the row or its prompt, or the data set that it comes from."""
    template: Slug
    """Template of that generator; ``dataset`` where there is none."""
    points: tuple[Slug, ...]
    """Rubric points that the row teaches."""
    lineage: Annotated[Lineage | None, Field(exclude_if=lambda lineage: lineage is None)] = None
    """None for a row that its generator wrote."""


class Prompt(TrainingRow):
    """A row whose answer the model is to find itself, with what a rubric needs to score whatever it says.

    It comes from training signal, never from scored text. For GRPO, and to draw answers for preference pairs.
    """

    expected: dict[str, JsonValue]
    """The right answer field by field: a rubric compares a completion with it, as with a scenario's ``reference``."""
    rubric: Digest
    """The rubric that scores it."""


class PreferencePair(Frozen):
    """Two answers to one prompt, the first of which passes the rubric and the second of which does not. For DPO."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    """The conversation, without the eval set's system prompt; the last message is the user's."""
    chosen: str = Field(min_length=1)
    """The answer that passes."""
    rejected: str
    """The model's own answer that fails; it may be empty."""
    source: PairSource
    generator: Slug | None = None
    """Generator that made the prompt, if one did."""
    template: Slug | None = None
    """Template of that generator."""
    cluster: Slug | None = None
    """The failure cluster that called for it."""
    scenarios: tuple[Slug, ...] = ()
    """Failed scenarios that called for it; no text of theirs is in it."""
    points: tuple[Slug, ...]
    """Rubric points that the rejected answer misses."""
    rubric: Digest
    """The rubric that told the two apart."""

    def as_row(self) -> TrainingRow:
        """Its prompt with the answer that it teaches, to be compared with scored texts."""
        return TrainingRow(
            messages=self.messages,
            answer=self.chosen,
            generator=self.generator or self.source,
            template=self.template or self.source,
            points=self.points,
        )
