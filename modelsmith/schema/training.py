"""Training methods: each has a block of settings of its own, which knows no other method's."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field

from modelsmith.schema.base import Frozen, Seed

Method = Literal["sft", "dpo", "grpo"]
"""Methods with a name; see `AVAILABLE_METHODS`."""


class Lora(Frozen):
    """Low-rank adapter on the linear layers."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    top_layers: Annotated[int, Field(ge=1)] | None = None
    """Adapt only this many layers counted from the output; all when not set."""


class Settings(Frozen):
    """What training by any method needs."""

    seed: Seed = 17
    rows: Annotated[int, Field(ge=1)] = 480
    """Training rows drawn from the generators for one iteration."""
    steps: Annotated[int, Field(ge=1)] = 48
    """Optimizer steps."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Rows per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    lora: Lora = Lora()
    checkpoint_every: Annotated[int, Field(ge=1)] = 16
    """Steps between checkpoints; a killed run resumes from the last."""


class Sft(Settings):
    """Supervised fine-tuning on the rows' answers."""

    method: Literal["sft"] = "sft"


class Planned(Settings):
    """A method that this version cannot run.

    `validate` refuses it. So settings of its own are passed over here: who wrote them is told the one thing that
    matters.
    """

    model_config = ConfigDict(extra="ignore")

    method: Literal["dpo", "grpo"]


def _by_default_sft(value: Any) -> Any:
    """A block without a method is one of supervised fine-tuning, as it was before there were others."""
    return {"method": "sft", **value} if isinstance(value, dict) else value


Training = Annotated[Sft | Planned, Field(discriminator="method"), BeforeValidator(_by_default_sft)]
"""How a candidate is trained: the settings of one method."""

AVAILABLE_METHODS: Final[tuple[Method, ...]] = get_args(Sft.model_fields["method"].annotation)
"""What this version can run."""
