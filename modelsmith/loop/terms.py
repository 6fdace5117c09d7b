"""What an iteration keeps to, of two commits of main: whether main has outrun it."""

from __future__ import annotations

from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import Revision
from modelsmith.schema.catalog import CLUSTER_DEFAULTS


def changed_terms(then: Revision, now: Revision, cluster: str) -> str:
    """Which terms of a training main has changed, in one sentence; empty where none.

    A candidate that was trained by other terms than main's is refused.
    """
    ours, mains = _terms(then, cluster), _terms(now, cluster)
    changed = [name for name, term in ours.items() if term != mains[name]]
    return f"main has changed {' and '.join(changed)} since it began" if changed else ""


def asks(tree: Revision, cluster: str) -> tuple[object, ...]:
    """What evidence must have answered, and the rule it must have passed: main accepts no evidence of others."""
    file = load_cluster(tree, cluster)
    governed = load_eval_set(tree, file.eval_set)
    return governed.question(), effective_rule(governed, file)


def pinned(files: Revision, cluster: str) -> tuple[object, ...]:
    """Everything that an iteration reads from its commit, as git names it."""
    folder = f"evals/{load_cluster(files, cluster).eval_set}"
    return (
        files.entries(f"clusters/{cluster}/cluster.yaml"),
        files.entries(CLUSTER_DEFAULTS),
        files.folder_id(folder),
    )


def _terms(tree: Revision, cluster: str) -> dict[str, object]:
    file = load_cluster(tree, cluster)
    governed = load_eval_set(tree, file.eval_set)
    return {
        "the base model": file.base_model,
        "training": (file.training, file.stage_by_stage),
        "loop.seeds": file.loop.seeds,
        "the rubric": governed.rubric_digest,
        "generators": governed.generators,
        "data sets": governed.datasets,
    }
