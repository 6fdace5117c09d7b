"""What is asked of a judge model, and what it answers: the seam between scoring and whoever judges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from modelsmith.schema.base import Digest
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.rubric import RubricPoint
from modelsmith.schema.scenario import Scenario


@dataclass(frozen=True)
class JudgeQuestion:
    """One judged rubric point and one answer."""

    key: str
    """Chosen by the caller, unique in a batch; the verdict carries it back."""
    point: RubricPoint
    """Its check is a `JudgeCheck`."""
    scenario: Scenario
    completion: str


@dataclass(frozen=True)
class JudgeVerdict:
    """The judge's word on one question."""

    key: str
    passed: bool
    """Means nothing when `error` is set."""
    reason: str
    """What the judge gave as its reason, before its verdict."""
    error: ModelsmithError | None = None
    """Why there is no verdict; a failed judge is an error, never a zero."""
    served: str | None = None
    """What a server calls the model that judged, where it says so."""


class Judge(Protocol):
    """A model that decides judged rubric points."""

    identity: Digest
    """Digest of all that shapes a verdict besides point, scenario and answer: weights, engine, prompt, sampling."""
    lasting: bool
    """Whether a verdict may be kept beyond its run: not when the judge's weights cannot be known."""

    def decide(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeVerdict]:
        """One verdict per question, as they come, in any order.

        A question that got no verdict yields one with `error` set; what stops the whole batch is raised as a
        `ModelsmithError`.
        """
        ...

    def close(self) -> None:
        """Give back memory, processes and connections; calling it again does nothing."""
        ...
