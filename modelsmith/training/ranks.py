"""What the processes of one training say to each other; nothing, where there is one. Heavy, once they have joined.

Rank 0 alone decides and writes: it gives signs of life, waits for a front door, seals checkpoints and leaves the
result. The others go through their rows of each step, and hear from it whether to stop.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from modelsmith.fleet.ranks import MEETING
from modelsmith.training.failures import OUTSIDE_ERRORS, HostUnfitError

T = TypeVar("T")
_PATIENCE = timedelta(days=30)
"""How long a rank waits for the others: rank 0 may wait for a front door. One that is gone is noticed at once."""
_LOST = ("gloo", "nccl", "closed by peer", "reset by peer")


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) if MEETING in os.environ else 1


def number() -> int:
    """Which of them this is, from 0."""
    return int(os.environ["RANK"]) if MEETING in os.environ else 0


def is_first() -> bool:
    """Whether this is the one that decides and writes."""
    return number() == 0


def join() -> None:
    """Meet the others, and take this rank's device.

    Raises:
        HostUnfitError: there are fewer GPUs than processes.
    """
    if count() == 1:
        return
    import torch
    from torch import distributed

    cuda = torch.cuda.is_available()
    if cuda:
        available = torch.cuda.device_count()
        if available < count():
            raise HostUnfitError(f"devices: {count()} needs as many GPUs, and the machine that trains has {available}.")
        torch.cuda.set_device(number())
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=f"file://{os.environ[MEETING]}",
        rank=number(),
        world_size=count(),
        timeout=_PATIENCE,
    )


def leave(status: int) -> None:
    """End this process at once with that status, where several train together; return, where there is one.

    Threads that talk to the others outlive the last step, and may abort a rank that is done while Python takes itself
    apart.
    """
    if count() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def from_first(value: T) -> T:
    """Rank 0's value, at every rank."""
    if count() == 1:
        return value
    from torch import device, distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0, device=device("cpu"))
    return values[0]


def decided(work: Callable[[], T]) -> T:
    """What came of ``work`` at rank 0, which alone does it, at every rank; its error likewise.

    Raises:
        JudgeSpentError, JudgeFailedError, JudgeUnclearError: as ``work``, at every rank. Of another error the other
            ranks hear by losing rank 0.
    """
    if count() == 1:
        return work()
    outcome: tuple[Any, Exception | None] = None, None
    if is_first():
        try:
            outcome = work(), None
        except OUTSIDE_ERRORS as error:
            outcome = None, error
    value, failure = from_first(outcome)
    if failure is not None:
        raise failure
    decision: T = value
    return decision


def mean(values: dict[str, float]) -> dict[str, float]:
    """Mean over all ranks of each value; all have the same names."""
    if count() == 1:
        return values
    from torch import distributed, float64, tensor

    total = tensor([values[name] for name in sorted(values)], dtype=float64)
    distributed.all_reduce(total)
    return dict(zip(sorted(values), (total / count()).tolist(), strict=True))


def meet() -> None:
    """Wait until every rank is here."""
    mean({"here": 1.0})


def shared_out(items: Sequence[Any], work: Callable[[Sequence[Any]], list[T]]) -> list[T]:
    """The results of ``work`` for all items, in order; each rank does its share."""
    if count() == 1:
        return work(items)
    from torch import distributed

    parts: list[list[T]] = [[] for _ in range(count())]
    distributed.all_gather_object(parts, work(items[number() :: count()]))
    return [parts[index % count()][index // count()] for index in range(len(items))]


def gathered(items: list[T]) -> list[T]:
    """Values of all ranks, one rank's after the other's, at every rank."""
    if count() == 1:
        return items
    from torch import distributed

    parts: list[list[T]] = [[] for _ in range(count())]
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def through(model: Any, compute: Callable[..., T], *arguments: Any) -> T:
    """``compute(model, ...)`` as the forward pass of the wrapper that sums gradients over all ranks, if there is one.

    Without that, gradients are never summed, and each rank would train a model of its own.
    """
    if count() == 1:
        return compute(model, *arguments)
    from trl.models.utils import _ForwardRedirection

    result: T = _ForwardRedirection()(model, model.module, compute, model.module, *arguments)
    return result


def lost_one(error: BaseException) -> bool:
    """Whether the error says no more than that another rank is gone, which has said why itself or was killed."""
    if count() == 1:
        return False
    from torch import distributed

    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(word in text for word in _LOST)
