"""One stage trained by hand, on the failures of any run: a trial, whose adapter no candidate is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelsmith.artifacts.store import Store
from modelsmith.loop.diagnose import diagnose_run
from modelsmith.loop.embedding import meaning_of, policy_in
from modelsmith.loop.engines import Target
from modelsmith.loop.evals import BASE, target_of
from modelsmith.loop.preparing import prepare
from modelsmith.loop.recipe import Recipe, StageRun, run_stages
from modelsmith.loop.training import seal_adapter
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import content_digest, digest
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.run import RunResult
from modelsmith.schema.training import Method, Stage

Aim = Literal["failures", "all"]


@dataclass(frozen=True)
class Trial:
    """A stage that was trained by hand."""

    number: int
    """Of the stage in the cluster file, counted from 1."""
    run: StageRun
    parent: str
    """Name of the model that it went on from."""
    artifact: str | None
    """Id of the sealed adapter in the store; None when there was nothing to learn."""
    folder: Path
    """Where rows and job lie."""
    seeds: int
    """How many an iteration tries."""


def train_stage(workspace: Workspace, run: RunResult, number: int | None, method: Method | None, aim: Aim) -> Trial:
    """Train a stage of the run's cluster, as its file on disk has it, from the model that the run is of.

    The same stage of the same run is adopted where it was trained before; interrupted, the same call goes on.

    Raises:
        InvalidInput: ``no-such-stage``; ``not-trainable`` when the run is of a model that has no adapter over the
            cluster's base model; ``other-question`` when the eval set has changed since; ``no-failures`` when there is
            none to aim at; as `prepare`.
        InfrastructureFailure: the worker failed for good.
        KeyboardInterrupt: interrupted; the worker has stopped and the next call resumes from its checkpoint.
    """
    cluster = load_cluster(workspace.files, run.cluster)
    governed = load_eval_set(workspace.files, cluster.eval_set)
    place, stage = _stage(cluster, number, method)
    parent = _parent(workspace, cluster, run)
    clusters = diagnose_run(workspace, run)
    if aim == "failures" and not clusters:
        raise InvalidInput(
            "no-failures", f"The run {run.tag} has no failure to learn from.", "Train with --target all.", tag=run.tag
        )
    identity = [run.run_id, content_digest(stage, {"judge_calls", "gpu_memory_share"}), aim, governed.rubric_digest]
    identity += [*map(content_digest, governed.generators), *map(content_digest, governed.datasets)]
    folder = workspace.cluster_folder(run.cluster) / "trained" / digest(identity).removeprefix("sha256:")[:16]
    policy = policy_in(workspace.files)
    recipe = Recipe(workspace, cluster, governed, meaning_of(workspace, policy), policy)
    prepare(recipe, folder, stage, None if aim == "all" else clusters, parent)
    (stage_run,) = run_stages(recipe, folder, [stage], parent)
    if stage_run.outcome is None:
        return Trial(place, stage_run, parent.name, None, folder, cluster.loop.seeds)
    sealed = folder / "artifact"
    artifact = seal_adapter(stage_run.outcome.adapter, sealed, cluster.base_model)
    Store(workspace.store(cluster.store)).put(sealed, artifact)
    return Trial(place, stage_run, parent.name, artifact, folder, cluster.loop.seeds)


def _stage(cluster: Cluster, number: int | None, method: Method | None) -> tuple[int, Stage]:
    stages = list(enumerate(cluster.stages, start=1))
    matching = [(n, stage) for n, stage in stages if number in (None, n) and method in (None, stage.method)]
    if not matching:
        wanted_stage = (f" {number}" if number else "") + (f" by {method}" if method else "")
        raise InvalidInput(
            "no-such-stage",
            f"The training of {cluster.cluster} has no stage{wanted_stage}.",
            f"It has: {', '.join(f'{n} ({stage.method})' for n, stage in stages)}.",
            stages=[stage.method for _, stage in stages],
        )
    return matching[0]


def _parent(workspace: Workspace, cluster: Cluster, run: RunResult) -> Target:
    if run.weights == cluster.base_model.digest:
        return target_of(workspace, cluster, BASE, None)
    if run.base != cluster.base_model.digest:
        raise InvalidInput(
            "not-trainable",
            f"The run {run.tag} is of {run.model}, which is no adapter over {cluster.base_model.name}.",
            "Name a run of the base model or of a specialist that was trained from it.",
            tag=run.tag,
        )
    return target_of(workspace, cluster, run.model, run.weights)
