"""The base of every governed type, and the small vocabularies shared by them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints


class Frozen(BaseModel):
    """Immutable, strict (no coercion of "3" into 3), unknown fields refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def defaults(cls) -> Self:
        """The value with every field at its default, as the default of another type's field.

        It equals ``cls()``, but nothing is validated: every command imports these types, and would build a validator
        for each such default, which takes a quarter of the time of a short command.
        """
        return super().model_construct()


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""A SHA-256 digest, written ``sha256:<64 hex digits>``."""

GitHash = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
"""A git object id (SHA-1 or SHA-256 repositories)."""

SLUG = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"
Slug = Annotated[str, StringConstraints(pattern=SLUG)]
"""A name that is safe as a file name everywhere: lower-case ASCII letters, digits, dot, hyphen, underscore."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole."""

Actor = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""The id of a person or harness in ``people.yaml``."""

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217 code."""

EvalSetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}/[a-z0-9._-]{1,64}$")]
"""``<domain>/<set>`` under ``evals/``."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Starts a random generator; every library takes one of 32 bits."""

SetVersion = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$")]
"""Version of an eval set."""

_NUMBER = r"[0-9][0-9A-Za-z.+-]{0,47}"

Version = Annotated[str, StringConstraints(pattern=rf"^{_NUMBER}$")]
"""Version of a library, such as ``2.13.0+cpu``."""

Libraries = Annotated[
    str, StringConstraints(pattern=rf"^[a-z][a-z0-9-]{{0,31}} {_NUMBER}(, [a-z][a-z0-9-]{{0,31}} {_NUMBER}){{0,7}}$")
]
"""Libraries with their versions: ``transformers 5.23.0, torch 2.13.0+cpu``."""

_SERVED = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}"

ServedName = Annotated[str, StringConstraints(pattern=rf"^{_SERVED}$")]
"""Name by which a server knows a model: ``meta-llama/Llama-3.3-70B-Instruct``."""


def _in_the_calendar(moment: datetime) -> datetime:
    if not 1970 <= moment.year <= 9998:
        raise ValueError("the year must lie between 1970 and 9998")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_in_the_calendar)]
"""A time with its offset, far enough from the calendar's edges that nothing computed from it leaves the calendar."""

Section = Literal["core", "robustness", "micro", "held_out"]
"""Parts of an eval: ``core`` (own wordings), ``robustness`` (rephrased variants of core), ``micro``, ``held_out``."""

ScoredPart = Literal["core", "variants", "micro", "held_out", "labels"]
"""Own wordings of core scenarios with what stands around them; their variants, and those of micro; micro-benchmarks;
everything held out; answers that people labelled."""

Event = Literal[
    "candidate",
    "eval-accepted",
    "artifact-exported",
    "customer-deployed",
    "production-validated",
    "deprecated",
    "rolled-back",
    "hold-cleared",
]
"""What can happen to a specialist; the folder ``<seq>-<event>`` under ``promotions/`` carries it."""

State = Literal[
    "candidate", "eval-accepted", "artifact-exported", "customer-deployed", "production-validated", "deprecated"
]
"""The six states of a specialist."""

MOST_WEIGHT = 1_000_000
"""Largest weight of a point or a part: far above any use, and far below where sums of weights overflow."""
