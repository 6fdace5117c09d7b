"""Several trainings of one candidate that differ in their seed alone: which seeds, and what each came to."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Digest, Frozen, Seed, Share

APART: Final = 10_000
"""How far the seeds of two tries lie apart, so that no iteration takes the seed of another one's try."""


class SeedTry(Frozen):
    """One training of several that differ in their seed alone."""

    seed: Seed
    """Seed of its first stage."""
    held_in: Share | None
    """Mean score of its greedy answers to the prompts set aside; None where no adapter came out."""
    artifact: Digest | None
    """Artifact id of its adapter; None where none came out."""
    ended: Literal["no-pairs", "tripped"] | None = None
    """Why none did: the model failed no prompt that pairs are made of, or a tripwire ended it."""

    @model_validator(mode="after")
    def _says_what_came_of_it(self) -> Self:
        if len({self.held_in is None, self.artifact is None, self.ended is not None}) > 1:
            raise ValueError("a try has either a score and an artifact, or the reason why it has none")
        return self


class SeedTries(Frozen):
    """All trainings of one candidate, in the order of their numbers; what the choice among them rests on."""

    asked: Annotated[int, Field(ge=1)]
    """Prompts set aside, which nothing was trained on and all tries answered. None of them is a scored text."""
    asked_digest: Digest
    """Digest of these prompts, in order, which stay on the machine."""
    judge: Digest | None = None
    """Identity of the judge that decided points of their scores; None where the rubric has no judged point."""
    each: Annotated[tuple[SeedTry, ...], Field(min_length=2)]


def seed_of(registered: int, iteration: int, number: int = 1) -> int:
    """The seed of a stage in one try of an iteration, both counted from 1; ``registered``: what the cluster file says.

    So a try has no seed to choose: which seeds there are follows from the file and the iteration.
    """
    return (registered + iteration - 1 + APART * (number - 1)) % 2**32


def best_of(tries: SeedTries) -> int | None:
    """Number, counted from 1, of the try that scored highest held in; of several, the first. None where all ended."""
    scored = [
        (trained.held_in, number) for number, trained in enumerate(tries.each, start=1) if trained.held_in is not None
    ]
    return max(scored, key=lambda pair: (pair[0], -pair[1]))[1] if scored else None
