"""A long line of main in parts that are judged at the same time, and why they say the same as one replay.

A replay is a fold: it carries main from step to step. Each part begins with main as its files are there, on the
assumption that this is what a replay comes to. The part before it proves that: at its end it compares what it carried
with what the files say (`carried_as_read`). The first part assumes nothing. So where every part holds, all of them
together are the one replay, by induction; from the first that does not hold, main is replayed to its end (`joined`).

A part can only begin where every step before it has its receipts. Where that seems so is looked up here, and nothing
hangs on it: a part whose receipts come later does not hold, and is replayed together with what comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise, takewhile
from typing import NamedTuple

from modelsmith.promotion.receipt_commits import read_receipts
from modelsmith.promotion.verify import Part, Replay, carried_as_read, replay_part
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.progress import Notify

_LOOK_BACK = 16
"""Steps before a cut that must have their receipts; if an earlier one waits for its own, time is lost and no more."""


class Counts(NamedTuple):
    """Counts of a part that holds and ends as its files say."""

    changes: int
    promotions: int
    approvals: int


def counted(git: Git, part: Part, notify: Notify, now: datetime) -> Counts | None:
    """Judge a part that others follow; None where it does not hold, or does not end as its files say."""
    try:
        replayed = replay_part(git, part, notify, now)
        return Counts(replayed.changes, replayed.promotions, replayed.approvals) if carried_as_read(replayed) else None
    except (ModelsmithError, ValueError):
        return None


def cut(start: str, steps: Sequence[Commit], at: Iterable[int]) -> list[Part]:
    """Steps in parts that begin at the first and at these indices."""
    ids = [step.id for step in steps]
    return [Part(start, ids[:begin], steps[begin:end], ids[-1]) for begin, end in pairwise([0, *at, len(steps)])]


def clean_cuts(git: Git, steps: Sequence[Commit], parts: int) -> list[int]:
    """Where the steps can be cut into so many parts of about the same length; fewer where they cannot."""
    targets = (len(steps) * number // parts for number in range(1, parts))
    return sorted({begin for at in targets if (begin := _clean_cut(git, steps, at))})


def _clean_cut(git: Git, steps: Sequence[Commit], at: int) -> int | None:
    """The nearest clean cut at an index or shortly before it."""
    first = max(0, at - 2 * _LOOK_BACK)
    try:
        receipts = [read_receipts(git, step) for step in steps[first:at]]
    except (ModelsmithError, ValueError):
        return None
    for end in range(at, max(first, at - _LOOK_BACK), -1):
        begin = max(0, end - _LOOK_BACK)
        looked = receipts[begin - first : end - first]
        receipted = {receipts.receipt.merge for receipts in looked if receipts}
        changes = {step.id for step, receipts in zip(steps[begin:end], looked, strict=True) if not receipts}
        if looked[-1] and changes <= receipted:
            return end
    return None


def joined(
    git: Git,
    parts: Sequence[Part],
    others: Sequence[Counts | None],
    last: Replay | ModelsmithError | None,
    notify: Notify,
    now: datetime,
) -> Replay:
    """The sum of the counts of all parts: what one replay would count.

    Args:
        git: As `replay_part`.
        parts: All of them, in order.
        others: What each part but the last has counted, in order, up to the first that does not hold (None) at least.
        last: What the last part came to; None where that is not known.
        notify: Told of each change that is judged again.
        now: The verifier's present.

    Raises:
        ModelsmithError: as `replay`.
    """
    finished = [counts for counts in takewhile(lambda counts: counts is not None, others) if counts]
    if len(finished) < len(parts) - 1 or last is None:
        rest = [step for part in parts[len(finished) :] for step in part.steps]
        last = replay_part(git, parts[len(finished)]._replace(steps=rest), notify, now)
    if isinstance(last, ModelsmithError):
        raise last
    for counts in finished:
        last.changes += counts.changes
        last.promotions += counts.promotions
        last.approvals += counts.approvals
    return last
