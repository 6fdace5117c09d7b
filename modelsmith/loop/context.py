"""The context of an iteration: governed files of one commit, and the harness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelsmith.diagnosis.meaning import Meaning
from modelsmith.loop.embedding import meaning_of, policy_in
from modelsmith.loop.engines import Target
from modelsmith.loop.evals import BASE, EvalSpec, target_of
from modelsmith.loop.iteration import BegunIteration, WithCandidate
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.governance import Policy
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.training import Stage

EXPORTS = "exports"
"""Folder beside that of the iterations."""


@dataclass(frozen=True)
class IterationContext:
    """Everything is read from the iteration's commit, so an edit in between changes nothing half-way."""

    harness: Harness
    cluster: Cluster
    governed: GovernedSet
    eval_tree: str
    """Git tree hash of the eval set."""
    latest: MainReader
    """Main as it moves while the iteration promotes."""
    policy: Policy | None
    """Policy of that commit."""

    @property
    def workspace(self) -> Workspace:
        """The clone in which the iteration runs."""
        return self.harness.workspace

    def folder(self, iteration: BegunIteration) -> Path:
        """Where the iteration keeps rows, job, artifact and evidence; an export has a folder of its own."""
        own = self.workspace.cluster_folder(self.cluster.cluster)
        if isinstance(iteration, WithCandidate) and iteration.export_tag is not None:
            return own / EXPORTS / iteration.specialist
        return own / "iterations" / f"{iteration.number:03d}"

    def stages(self, iteration: BegunIteration) -> tuple[Stage, ...]:
        """The stages that the iteration trains, in order."""
        return self.cluster.stages[: iteration.stages]

    def main(self) -> GovernedState:
        """Main as it is now; it moves while the iteration promotes."""
        return self.latest.read()

    @property
    def meaning(self) -> Meaning | None:
        """How near in meaning rows may come to what is scored, where policy says it."""
        return meaning_of(self.workspace, self.policy)

    def target(self, model: str) -> Target:
        """The base model, a baseline of the cluster, or a specialist that main knows."""
        others = {BASE, *(baseline.name for baseline in self.cluster.baselines)}
        artifact = None if model in others else self.main().histories.find(model).artifact
        return target_of(self.workspace, self.cluster, model, artifact)

    def eval_spec(self, tag: str) -> EvalSpec:
        """The whole governed eval under a tag."""
        return EvalSpec(self.cluster, self.governed, self.eval_tree, tag)


def open_context(harness: Harness, iteration: BegunIteration, latest: MainReader | None = None) -> IterationContext:
    """The context of an iteration; ``latest`` is the reader of main that the caller has used.

    Raises:
        InvalidInput: cluster or eval set do not load.
    """
    tree = harness.workspace.revision(iteration.commit)
    cluster = load_cluster(tree, iteration.cluster)
    governed = load_eval_set(tree, cluster.eval_set)
    eval_tree = harness.workspace.git.text("rev-parse", f"{iteration.commit}:{governed.folder}")
    reader = latest or MainReader(harness)
    return IterationContext(harness, cluster, governed, eval_tree, reader, policy_in(tree))
