"""Failures of a run, grouped, and the training rows that answer them."""

from __future__ import annotations

from modelsmith.diagnosis.failures import failure_clusters
from modelsmith.diagnosis.patterns import remembered
from modelsmith.evaluation.scoring import judged_points
from modelsmith.loop.diagnoses import iteration_of, tried_before
from modelsmith.loop.embedding import embedder_of, policy_in
from modelsmith.loop.evals import read_observations
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.diagnosis import FailureCluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import RunResult
from modelsmith.substrates.embedder import Embedder


def diagnose_run(workspace: Workspace, run: RunResult) -> tuple[FailureCluster, ...]:
    """Group the run's failures by the eval set as it is on disk, each with what was tried about it before.

    Raises:
        InvalidInput: ``other-question`` when the eval set has changed since the run.
    """
    governed = load_eval_set(workspace.files, load_cluster(workspace.files, run.cluster).eval_set)
    if governed.question() != run.question:
        raise InvalidInput(
            "other-question",
            f"The eval set changed since {run.tag}",
            f"Run `modelsmith eval --cluster {run.cluster} --model {run.model}`, which asks only what changed, then "
            "diagnose the tag that it prints.",
            tag=run.tag,
        )
    past = tried_before(workspace, run.cluster, iteration_of(run.cluster, run.tag))
    judged = bool(judged_points(governed.rubric))
    embedder = embedder_of(workspace, policy_in(workspace.files))
    return remembered(diagnose(workspace, governed, run, embedder), past, judged=judged)


def diagnose(
    workspace: Workspace, governed: GovernedSet, run: RunResult, embedder: Embedder | None
) -> tuple[FailureCluster, ...]:
    """Group the failures; held-out observations are taken out before anything looks at them."""
    visible = [observation for observation in read_observations(workspace, run) if observation.section != "held_out"]
    return failure_clusters(governed, visible, embedder)
