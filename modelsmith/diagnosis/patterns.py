"""Patterns across iterations: since when each is there, what was done about it, and what is next. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from modelsmith.schema.base import Slug
from modelsmith.schema.diagnosis import Action, Diagnosis, FailureCluster, PatternHistory, Tried
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.training_row import TrainingRow

ENOUGH: Final = 0.25
"""Share of a pattern's cases that a training must take away to count as one that helps."""
PERSISTENT: Final = 2
"""Trainings in a row that did not help."""


class Past(NamedTuple):
    """An earlier iteration: what it diagnosed, and what its candidate then failed; None where none was evaluated."""

    diagnosis: Diagnosis
    failed: Collection[Slug] | None


def remembered(
    clusters: Iterable[FailureCluster], past: Sequence[Past], *, judged: bool = False
) -> tuple[FailureCluster, ...]:
    """The clusters with their history, and with the reviewer's action by what has been tried; ``past`` oldest first.

    ``judged``: a judge decides a point of the rubric, which is not a reward then.
    """
    return tuple(_remembered(cluster, past, judged) for cluster in clusters)


def possible(action: Action, *, judged: bool) -> Action:
    """The action, or a person's look where the rubric cannot reward answers because a judge decides a point of it."""
    return "review" if judged and action == "grpo" else action


def _remembered(cluster: FailureCluster, past: Sequence[Past], judged: bool) -> FailureCluster:
    appearances = [
        (iteration, seen_cluster)
        for iteration in past
        for seen_cluster in iteration.diagnosis.clusters
        if seen_cluster.id == cluster.id
    ]
    tried = tuple(
        _tried(iteration, former) for iteration, former in appearances if iteration.diagnosis.rows.get(former.id)
    )
    fruitless = _fruitless(tried)
    action = possible(_action(tried, fruitless), judged=judged)
    history = PatternHistory(
        first_seen=appearances[0][0].diagnosis.iteration if appearances else None,
        iterations=len(appearances),
        tried=tried,
        persistent=fruitless >= PERSISTENT,
        action=action,
    )
    words = cluster.reviewer_action if action == "train" else _words(action, tried[-fruitless:])
    return cluster.model_copy(update={"history": history, "reviewer_action": words})


def _tried(past: Past, cluster: FailureCluster) -> Tried:
    return Tried(
        iteration=past.diagnosis.iteration,
        methods=past.diagnosis.methods,
        rows=past.diagnosis.rows[cluster.id],
        before=cluster.failed_cases,
        after=None if past.failed is None else len(set(cluster.cases) & set(past.failed)),
    )


def _fruitless(tried: Sequence[Tried]) -> int:
    """Trainings at the end that did not help; one whose candidate was never evaluated says nothing."""
    count = 0
    for attempt in reversed([attempt for attempt in tried if attempt.after is not None]):
        if attempt.after is not None and attempt.after <= (1 - ENOUGH) * attempt.before:
            break
        count += 1
    return count


def _action(tried: Sequence[Tried], fruitless: int) -> Action:
    if fruitless == 0:
        return "train"
    if fruitless < PERSISTENT:
        return "widen"
    used = {method for attempt in tried[-fruitless:] for method in attempt.methods}
    return "dpo" if not used & {"dpo", "grpo"} else "grpo" if "grpo" not in used else "review"


_NEXT: Final[dict[Action, str]] = {
    "widen": "widen the templates and slots of its generators",
    "dpo": "add a stage of method dpo: its wrong answers against right ones",
    "grpo": "add a stage of method grpo: the rubric's score as reward",
    "review": "have the domain lead read its cases, their references and the rubric before more training",
}


def _words(action: Action, tried: Sequence[Tried]) -> str:
    attempts = ", ".join(
        f"{attempt.before} to {attempt.after} in iteration {attempt.iteration}" for attempt in tried[-3:]
    )
    methods = " and ".join(sorted({method for attempt in tried for method in attempt.methods}))
    return f"training by {methods} did not help ({attempts}): {_NEXT[action]}"


def aimed(governed: GovernedSet, clusters: Iterable[FailureCluster], rows: Iterable[TrainingRow]) -> dict[Slug, int]:
    """How many rows teach what each cluster misses: those of its capability's generators for any of its points.

    A data set's row teaches every point of its capability.
    """
    by_capability, by_generator = Counter[Slug](), Counter[Slug]()
    for row in rows:
        if row.lineage and row.lineage.source == "dataset":
            by_capability[row.lineage.capability] += 1
        else:
            by_generator[row.generator] += 1
    return {
        cluster.id: by_capability[cluster.capability]
        + sum(
            by_generator[generator.id]
            for generator in governed.generators
            if generator.capability == cluster.capability and set(generator.points) & set(cluster.points)
        )
        for cluster in clusters
    }
