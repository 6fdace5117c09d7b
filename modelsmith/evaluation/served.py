"""Under which names the servers of a run answered, so that no run is made of two models' answers.

An endpoint's weights cannot be pinned; what its server calls itself is all that shows when another model stands behind
it. The names are kept as digests: a server's words are kept nowhere else.
"""

from __future__ import annotations

from typing import Literal

from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.errors import InfrastructureFailure

ServedRole = Literal["model", "judge"]
"""Whose server it is."""


class Served(Frozen):
    """``served.json`` of a run."""

    model: Digest | None = None
    """Of the name that the model's server gave; None before it said one."""
    judge: Digest | None = None
    """Digest of the name that the judge's server gave."""


def model_changed(model_name: ServedRole, tag: str) -> InfrastructureFailure:
    """Answers of two models are no eval of either."""
    whose = "The endpoint" if model_name == "model" else "The judge's endpoint"
    return InfrastructureFailure(
        "endpoint-model-changed",
        f"{whose} answers with another model than before in run '{tag}'.",
        "Name the exact version in the endpoint's model, and run again under a new --tag.",
        tag=tag,
        endpoint=model_name,
    )
