"""When a loop has had enough by what is registered in its cluster's file. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from modelsmith.promotion.records import is_assessment
from modelsmith.schema.cluster import Loop, Plateau
from modelsmith.schema.diagnosis import Action, Diagnosis
from modelsmith.schema.run import RunResult

StopKind = Literal["target-held", "plateau", "hours"]


class Assessed(NamedTuple):
    """What the eval of a candidate came to."""

    tag: str
    composite: float
    passed: bool


class Stop(NamedTuple):
    """Why no further iteration is begun, and what is recommended instead."""

    kind: StopKind
    sentence: str


WORDS: dict[Action, str] = {
    "train": "train on: its generators' rows have not been tried yet",
    "widen": "widen the generators of the pattern, or let a teacher or data sets give rows (`sources`)",
    "dpo": "add a stage `method: dpo`",
    "grpo": "add a stage `method: grpo`",
    "review": "have the domain lead read rubric and scenarios of the pattern",
}


def assessed(runs: Iterable[RunResult], cluster: str) -> list[Assessed]:
    """Whole evals of candidates, oldest first, that answered the question of the latest: others do not compare."""
    found = [run for run in runs if run.is_complete and is_assessment(run.tag, cluster, run.model)]
    same = [run for run in found if run.question == found[-1].question]
    by_tag = {run.tag: Assessed(run.tag, run.headline.composite.value, run.headline.verdict == "PASS") for run in same}
    return list(by_tag.values())


def stop_of(rule: Loop, evals: Sequence[Assessed], hours: float, diagnosed: Sequence[Diagnosis]) -> Stop | None:
    """Why to stop before another iteration; None to go on.

    Args:
        rule: What the cluster's file registers.
        evals: As `assessed` gives them.
        hours: Spent by this call.
        diagnosed: What iterations diagnosed, oldest first.
    """
    need = rule.hold_iterations
    if need and len(evals) >= need and all(one.passed for one in evals[-need:]):
        return Stop("target-held", f"the target is held in {need} iterations in a row")
    if rule.max_hours is not None and hours >= rule.max_hours:
        return Stop("hours", f"the budget of {rule.max_hours:g} hours is spent")
    if rule.plateau and _flat([one.composite for one in evals], rule.plateau):
        last = rule.plateau.iterations
        gain = f"the last {last} iterations gained less than {rule.plateau.least_gain:g} over the best before"
        return Stop("plateau", f"plateau: {gain}; recommended: {_next(diagnosed)}")
    return None


def _flat(composites: Sequence[float], rule: Plateau) -> bool:
    before, last = composites[: -rule.iterations], composites[-rule.iterations :]
    return bool(before) and max(last) - max(before) < rule.least_gain


def _next(diagnosed: Sequence[Diagnosis]) -> str:
    """The answer to the most severe pattern that training has not moved, by what has been tried."""
    clusters = diagnosed[-1].clusters if diagnosed else ()
    stuck = [one for one in clusters if one.history and one.history.persistent] or list(clusters)
    if not stuck or stuck[0].history is None:
        return "read `modelsmith diagnose`"
    return f"{WORDS[stuck[0].history.action]} ({stuck[0].id})"
