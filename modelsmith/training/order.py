"""Which rows go through the model when. Heavy: imports torch.

The rows of a step are the same in the same order, however many processes go through them, in however many parts: an
epoch is a shuffle of all rows, and a step takes the next ``batch_size`` of them; the last one of an epoch what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from datasets import Dataset

from modelsmith.training import ranks
from modelsmith.training.run import Bench


def steps(rows: int, size: int, seed: int) -> Iterator[list[int]]:
    """The rows of each step, without end. Shuffled as accelerate's ``SeedableRandomSampler`` does."""
    epoch = 0
    while True:
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        yield from (order[start : start + size] for start in range(0, rows, size))
        epoch += 1


def shares(step: list[int], size: int, into: int) -> list[list[int]]:
    """A step's rows, ``size`` at most, in so many shares; the last ones of a short step are empty."""
    each = size // into
    return [step[start * each : (start + 1) * each] for start in range(into)]


def parts(bench: Bench) -> Dataset:
    """What passes through the model at once, of the whole training in order; each rank takes every ``count()``-th.

    An item has ``rows``, numbers of the job's, and ``weight``: their share of the step's rows, times the number of its
    parts, so that the mean over all parts of weighted means is the mean over all rows.
    """
    training, into = bench.job.training, bench.arguments["gradient_accumulation_steps"] * ranks.count()
    return Dataset.from_list(
        [
            {"rows": share, "weight": len(share) * into / len(step)}
            for step in islice(steps(len(bench.rows), training.batch_size, training.seed), training.steps)
            for share in shares(step, training.batch_size, into)
        ]
    )


IN_ORDER: dict[str, Any] = {"per_device_train_batch_size": 1, "train_sampling_strategy": "sequential"}
"""transformers' ``TrainingArguments`` that go with `parts`."""
