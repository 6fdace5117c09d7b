"""What is done when a worker has failed: a table, how often each remedy is tried, and what it changes. Pure.

A remedy never changes what is trained: the job's identity stays, and each step goes through the rows that it would have
gone through. With fewer rows at once the sums are rounded otherwise, so the adapter is the same but for rounding (where
answers are sampled, what is rounded otherwise may draw another one); after the other remedies it is the very same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field, ValidationError

from modelsmith.fleet.folder import RECOVERIES_FILE
from modelsmith.schema.base import Frozen
from modelsmith.schema.plain_file import read_plain
from modelsmith.training.job import FailureClass, TrainJob, WorkerError

Action = Literal["resume", "earlier-checkpoint", "inputs-anew", "smaller-batch", "free-space", "next-host"]
"""Go on from the last checkpoint; from the one before, the last being removed; copy the inputs again; put half as many
rows through the model at once, in twice as many parts of a step; remove every checkpoint but the last whole one, and
keep no more than one from then on; go on from the last whole checkpoint that was fetched, on another host."""


class Remedy(NamedTuple):
    """The remedy against a class of failure."""

    action: Action
    most: int
    """How often it is tried in one call."""


REMEDIES: Final[Mapping[FailureClass, Remedy]] = {
    "oom": Remedy("smaller-batch", 3),
    "killed": Remedy("resume", 1),
    "preempted": Remedy("resume", 3),
    "sampler-failed": Remedy("resume", 2),
    "stalled": Remedy("resume", 1),
    "corrupt-checkpoint": Remedy("earlier-checkpoint", 2),
    "damaged-input": Remedy("inputs-anew", 1),
    "disk-full": Remedy("free-space", 1),
    "nan-loss": Remedy("resume", 1),
    "host-lost": Remedy("next-host", 3),
}
"""Classes that are not here (a tripwire, weights that differ, a crash nobody knows) end the training. A number that is
none may come from the device, and then does not come again; where it does, the settings are what is wrong."""
CHECKPOINTS: Final = 2
"""Kept while there is room: the last may turn out to be damaged."""


class Recovery(Frozen):
    """One recovery, as it is recorded."""

    failure: FailureClass
    action: Action
    step: Annotated[int, Field(ge=0)]
    """The last step that was heard of before."""
    rows_at_once: Annotated[int, Field(ge=1)]
    """Rows that go through the model at once from then on, on all devices together; ``batch_size`` unless that was
    halved."""


class Recoveries(Frozen):
    """``recoveries.json`` of a job's folder, oldest first."""

    made: tuple[Recovery, ...] = ()


def read_recoveries(folder: Path) -> tuple[Recovery, ...]:
    """The recoveries of the job so far."""
    try:
        return Recoveries.model_validate_json(read_plain(folder / RECOVERIES_FILE)).made
    except (OSError, ValidationError):
        return ()


def rows_at_once(job: TrainJob, recoveries: Sequence[Recovery]) -> int:
    """How many rows go through the model at once, on all devices together."""
    return min([job.training.batch_size, *(mended.rows_at_once for mended in recoveries)])


def parts_of_step(job: TrainJob, recoveries: Sequence[Recovery], devices: int) -> int:
    """In how many parts of equal size each device goes through its rows of a step."""
    own = job.training.batch_size // devices
    at_once = max(1, rows_at_once(job, recoveries) // devices)
    return next(parts for parts in range(-(-own // at_once), own + 1) if own % parts == 0)


def checkpoints_kept(recoveries: Sequence[Recovery]) -> int:
    """How many checkpoints lie in the job's folder at most."""
    return 1 if any(mended.action == "free-space" for mended in recoveries) else CHECKPOINTS


def recovery(
    job: TrainJob,
    failure: WorkerError,
    recoveries: Sequence[Recovery],
    tried: Counter[FailureClass],
    step: int,
    devices: int = 1,
) -> Recovery | None:
    """The next recovery; None when nothing is left to try.

    Args:
        job: What is trained.
        failure: How the worker ended.
        recoveries: All recoveries of the job.
        tried: How often each class of failure was met in this call, this time not counted.
        step: The last step that was heard of.
        devices: How many share the rows of a step; each keeps as many as any other.
    """
    remedy = REMEDIES.get(failure.failure)
    if remedy is None or tried[failure.failure] >= remedy.most:
        return None
    rows = rows_at_once(job, recoveries)
    if remedy.action == "smaller-batch":
        if rows % (2 * devices):
            return None
        rows //= 2
    return Recovery(failure=failure.failure, action=remedy.action, step=step, rows_at_once=rows)
