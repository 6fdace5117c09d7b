"""A job of GRPO whose answers come from vLLM."""

from __future__ import annotations

from pathlib import Path

from training.grpo_inputs import RUBRIC, SETTINGS

from modelsmith.schema.canonical import file_digest
from modelsmith.schema.training import Grpo
from modelsmith.substrates.base_models import listing_digest
from modelsmith.training.job import TrainJob

STEPS = 3
BY_VLLM = SETTINGS.model_copy(update={"sampler": "vllm", "steps": STEPS, "watch_every": 1, "checkpoint_every": 10})


def job_of(model: Path, rows: Path, settings: Grpo = BY_VLLM) -> TrainJob:
    return TrainJob(
        base=listing_digest(model), parent=None, rows=file_digest(rows), system="Name the cause.", training=settings,
        rubric=RUBRIC,
    )  # fmt: skip
