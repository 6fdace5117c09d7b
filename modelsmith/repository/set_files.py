"""What is read of one eval set's folder: typed values with the documents they stand in, and what reading has cost."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

from modelsmith.repository.document import Document, Location, Problem, dotted
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.generator import Generator
from modelsmith.schema.labels import Labels
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Scenario

T = TypeVar("T", bound=BaseModel)

Part = Literal["scenarios", "micro", "held_out"]
PARTS: tuple[Part, ...] = ("scenarios", "micro", "held_out")
"""Folders of a set that hold scenarios."""


@dataclass(frozen=True)
class Source(Generic[T]):
    """A typed value and the document it was read from."""

    value: T
    document: Document

    @property
    def path(self) -> str:
        """Path of its file."""
        return self.document.path

    def problem(self, location: Location, message: str, mend: str) -> Problem:
        """A mistake at a place of this file."""
        return Problem(*self.document.place(location), dotted(location), message, mend)


@dataclass
class Spent:
    """What one check of a repository has spent so far: what a proposal may cost its readers is bounded."""

    steps: int = 0
    """Steps of compiled patterns; at most `MAX_SIZE`."""
    compared: int = 0
    """Letters times letters; at most `separation.MAX_COMPARED`."""
    scored: int = 0
    """Letters of references times letters of rubrics; at most `passable.MAX_SCORED`."""


@dataclass(frozen=True)
class NearestPair:
    """The nearest held-out and core text of a set, by the names of their scenarios."""

    similarity: float
    limit: float
    first: str
    """Held-out scenario."""
    second: str
    """Core or micro scenario."""


class Apart(NamedTuple):
    """That no held-out text of a set is too near to a core or micro text, and which pair is nearest."""

    held_out: tuple[str, ...]
    """SHA-256 of each held-out text, in their order."""
    core: tuple[str, ...]
    """SHA-256 of each core and micro text, in their order."""
    nearest: tuple[float, int, int]
    """Similarity of the nearest pair, and the positions of its held-out and its core text."""


@dataclass
class SetFiles:
    """Everything read from one set's folder."""

    folder: str
    evalset: Source[EvalSet] | None = None
    rubrics: dict[str, Source[Rubric]] = field(default_factory=dict)
    """Rubrics, by path."""
    scenarios: dict[Part, list[Source[Scenario]]] = field(default_factory=lambda: {part: [] for part in PARTS})
    generators: list[Source[Generator]] = field(default_factory=list)
    datasets: list[Source[Dataset]] = field(default_factory=list)
    labels: dict[str, Source[Labels]] = field(default_factory=dict)
    """Labels, by path."""
    problems: list[Problem] = field(default_factory=list)
    nearest: NearestPair | None = None
    apart: Apart | None = None
    """Of an earlier reading until texts are compared; then of this one, None where some are too near."""

    @property
    def rubric(self) -> Source[Rubric] | None:
        """The rubric that ``evalset.yaml`` names."""
        if self.evalset is None:
            return None
        return self.rubrics.get(posixpath.normpath(f"{self.folder}/{self.evalset.value.rubric}"))
