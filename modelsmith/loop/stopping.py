"""When a loop has had enough by what is registered in its cluster's file. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from modelsmith.diagnosis.patterns import possible
from modelsmith.promotion.records import candidate_tag, is_assessment
from modelsmith.schema.cluster import Cluster, Loop, Plateau, Prices
from modelsmith.schema.diagnosis import Action, Diagnosis, FailureCluster, Recommendation
from modelsmith.schema.run import RunResult
from modelsmith.schema.steps import step
from modelsmith.schema.training import Stage, training_digest

StopKind = Literal["target-held", "plateau", "hours", "cost"]


_FREE: Final = Prices()
_ROUNDING: Final = 1e-9
"""By so much the difference of two composites may be off: 0.29 less 0.28 is not quite 0.01."""


class Assessed(NamedTuple):
    """Outcome of a candidate's eval."""

    tag: str
    composite: float
    passed: bool


class Stop(NamedTuple):
    """Why no further iteration is begun, and what is recommended instead."""

    kind: StopKind
    sentence: str
    recommended: Recommendation | None = None
    """The change to make at a plateau; see `recommendation`."""


WORDS: dict[Action, str] = {
    "train": "train on: its generators' rows have not been tried yet",
    "widen": "widen the generators of the pattern, or let a teacher or data sets give rows (`sources`)",
    "dpo": "add a stage `method: dpo`",
    "grpo": "add a stage `method: grpo`",
    "review": "have the domain lead read rubric and scenarios of the pattern",
}


WIDEN_JUDGED: Final = "widen the generators of the pattern"
"""Where a judge decides a point, a person has to say how often it may be asked about other rows (`sources-judged`)."""


def assessed(runs: Iterable[RunResult], cluster: str) -> list[Assessed]:
    """Whole evals of candidates, oldest first, that answered the question of the latest: others do not compare."""
    assessed_runs = [run for run in runs if run.is_complete and is_assessment(run.tag, cluster, run.model)]
    same = [run for run in assessed_runs if run.question == assessed_runs[-1].question]
    by_tag = {run.tag: Assessed(run.tag, run.headline.composite.value, run.headline.verdict == "PASS") for run in same}
    return list(by_tag.values())


class Stretch(NamedTuple):
    """Where a training stands in its stages, when a plateau of the scores adds the next one."""

    stages: int
    """How many stages the last iterations ran."""
    plateau: str
    """Why these have stopped paying; empty while they pay."""
    following: Stage | None
    """The stage that a plateau adds; None where all are run."""


def stretch_of(cluster: Cluster, evals: Sequence[Assessed], diagnosed: Sequence[Diagnosis]) -> Stretch:
    """By what the last iterations were trained, and whether that still pays; arguments as in `stop_of`.

    A plateau is one of candidates that were trained by as many stages. Changing a stage on main that was run begins
    with the first again; adding one behind them does not.
    """
    ours = [
        diagnosis
        for diagnosis in diagnosed
        if diagnosis.recipe == training_digest(cluster.stages[: len(diagnosis.methods)])
    ]
    last = ours[-1] if ours and ours[-1] is diagnosed[-1] else None
    stages = len(last.methods) if last else 1
    tags = {
        candidate_tag(cluster.cluster, diagnosis.iteration) for diagnosis in ours if len(diagnosis.methods) == stages
    }
    mine = [run.composite for run in evals if run.tag in tags]
    others = [run.composite for run in evals if run.tag not in tags]
    rule = cluster.loop.plateau
    flat = rule is not None and len(mine) >= rule.iterations and _flat([*others, *mine], rule)
    following = cluster.stages[stages] if stages < len(cluster.stages) else None
    return Stretch(stages, _gained_less(rule) if rule and flat else "", following)


def stop_of(
    rule: Loop,
    evals: Sequence[Assessed],
    hours: float,
    diagnosed: Sequence[Diagnosis],
    stretch: Stretch | None = None,
    *,
    judged: bool = False,
    prices: Prices = _FREE,
) -> Stop | None:
    """Why to stop before another iteration; None to go on.

    Args:
        rule: What the cluster's file registers.
        evals: As `assessed` gives them.
        hours: Spent by this call.
        diagnosed: What iterations diagnosed, oldest first.
        stretch: Where a plateau adds the next stage.
        judged: A judge decides a point of the rubric: rewards and other rows then need a number that a person gives.
        prices: What an hour costs.
    """
    need = rule.hold_iterations
    if need and len(evals) >= need and all(run.passed for run in evals[-need:]):
        return Stop("target-held", f"the target is held in {need} iterations in a row")
    if rule.max_hours is not None and hours >= rule.max_hours:
        return Stop("hours", f"the budget of {rule.max_hours:g} hours is spent")
    if costs_more(rule, prices, hours):
        return Stop("cost", f"the budget of {rule.max_cost:g} {prices.currency} is spent")
    flat = rule.plateau is not None and _flat([run.composite for run in evals], rule.plateau)
    if stretch:
        flat = bool(stretch.plateau) and stretch.following is None
    if rule.plateau and flat:
        return Stop("plateau", f"{_gained_less(rule.plateau)}; recommended: {_next(diagnosed, judged)}")
    return None


def costs_more(rule: Loop, prices: Prices, hours: float) -> bool:
    """Whether so many hours of the machine spend what the rule allows a call."""
    return rule.max_cost is not None and hours * prices.compute_per_hour >= rule.max_cost


def _gained_less(rule: Plateau) -> str:
    return f"plateau: the last {rule.iterations} iterations gained less than {rule.least_gain:g} over the best before"


def _flat(composites: Sequence[float], rule: Plateau) -> bool:
    before, last = composites[: -rule.iterations], composites[-rule.iterations :]
    return bool(before) and max(last) - max(before) < rule.least_gain - _ROUNDING


def _next(diagnosed: Sequence[Diagnosis], judged: bool) -> str:
    """The answer to the most severe pattern that training has not moved, by what has been tried."""
    stuck = _stuck(diagnosed)
    if stuck is None or stuck.history is None:
        return "read `modelsmith diagnose`"
    action = possible(stuck.history.action, judged=judged)
    return f"{WIDEN_JUDGED if judged and action == 'widen' else WORDS[action]} ({stuck.id})"


def _stuck(diagnosed: Sequence[Diagnosis]) -> FailureCluster | None:
    clusters = diagnosed[-1].clusters if diagnosed else ()
    return next(
        (cluster for cluster in clusters if cluster.history and cluster.history.persistent),
        clusters[0] if clusters else None,
    )


def recommendation(cluster: Cluster, diagnosed: Sequence[Diagnosis], *, judged: bool = False) -> Recommendation:
    """What to do at a plateau, as data: the change of the cluster's file, and what to run.

    ``judged`` as in `stop_of`.
    """
    stuck = _stuck(diagnosed)
    action = possible(stuck.history.action, judged=judged) if stuck and stuck.history else None
    asks_person = action is None or action == "review" or (judged and action == "widen")
    change = "" if asks_person or action == "train" else _change(cluster, action)
    return Recommendation(
        action=action,
        pattern=stuck.id if stuck else None,
        file=f"clusters/{cluster.cluster}/cluster.yaml" if change else "",
        change=change,
        next=step("diagnose", {}, tag=diagnosed[-1].tag)
        if asks_person and diagnosed
        else step("iterate", {"cluster": cluster.cluster}),
    )


def _change(cluster: Cluster, action: Action | None) -> str:
    """``training`` with what is recommended added to its stages as they are, as YAML in one line (JSON is YAML)."""
    stages: list[dict[str, Any]] = [
        {"method": stage.method, **stage.model_dump(mode="json", by_alias=True, exclude_defaults=True)}
        for stage in cluster.stages
    ]
    if action in ("dpo", "grpo"):
        last = cluster.stages[-1]
        stages.append({"method": action, "seed": last.seed + 1})
        # what decides the adapter's shape, and whether the model fits into memory
        settings = last.model_dump(
            mode="json", exclude_defaults=True, include={"lora", "load_in_4bit", "gradient_checkpointing"}
        )
        stages[-1] |= {name: value for name, value in settings.items() if value}
    else:
        supervised = next((stage for stage in stages if stage["method"] == "sft"), None)
        if supervised is None or supervised.get("sources"):
            return ""
        supervised["sources"] = {"own_samples": {}}
    return f"training: {json.dumps(stages if len(stages) > 1 else stages[0])}"
