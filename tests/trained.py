"""What the harness says of a candidate's training, as main asks for it; no model is trained."""

from __future__ import annotations

from typing import Any

from modelsmith.evaluation.reward import reward_digest
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import Tree
from modelsmith.schema.canonical import content_digest, digest
from modelsmith.schema.curve import CurveLine, StageCurve
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.training import training_digest

CLUSTER = "rtb-pricing"


def curve(steps: int) -> StageCurve:
    """The loss of a stage of so many steps."""
    return StageCurve(stage=1, lines=(CurveLine(measure="loss", points=((1, 1.5), (steps, 1.0))),))


def trained(tree: Tree, iteration: int = 1, **other: Any) -> TrainingFacts:
    """The lineage of an iteration's candidate, in these fields otherwise."""
    cluster = load_cluster(tree, CLUSTER)
    governed, settings = load_eval_set(tree, cluster.eval_set), cluster.stages[0]
    facts = {
        "base_model": cluster.base_model.name,
        "base_digest": cluster.base_model.digest,
        "parent": "base",
        "method": settings.method,
        "seed": settings.seed + iteration - 1,
        "rows": settings.rows - 1,
        "rows_digest": digest("rows"),
        "generators": {generator.id: content_digest(generator) for generator in governed.generators},
        "reward": governed.rubric_digest,
        "diagnosed_run": digest("diagnosed"),
        "hyperparameters": training_digest(cluster.training),
        "steps": settings.steps,
        "final_loss": 1.0,
        "trained_reward": reward_digest(governed.rubric_digest)
        if "grpo" in {stage.method for stage in cluster.stages}
        else None,
        "curves": (curve(settings.steps),),
        "toolkit": "modelsmith 0.1.0, torch 2.13.0",
    }
    return TrainingFacts(**(facts | other))
