"""Which substrate answers for a model: this process, a vLLM server, or the endpoint of a baseline."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelsmith.artifacts.kinds import export_of, gguf_file
from modelsmith.evaluation.cache import Cache
from modelsmith.evaluation.judges.metered import Account, MeteredSubstrate
from modelsmith.evaluation.judges.port import Judge
from modelsmith.evaluation.judges.remembering import RememberingJudge
from modelsmith.evaluation.scoring import judged_points
from modelsmith.loop.bases import base_missing
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.progress import Progress
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.source import BaseModelSource, Chat, Endpoint, JudgeModel
from modelsmith.substrates.endpoint.facts import endpoint_facts, unknown_weights
from modelsmith.substrates.lazy import LazySubstrate
from modelsmith.substrates.port import Substrate
from modelsmith.training.job import RewardJudge

if TYPE_CHECKING:
    from modelsmith.substrates.local import TransformersSubstrate

TOLD_EVERY = 10
"""Seconds between two words about a server that is starting."""


@dataclass(frozen=True)
class Target:
    """The model to evaluate."""

    name: str
    """``base``, a specialist id, a baseline's name, or words such as ``the teacher mentor``."""
    weights: str
    """Base model digest, artifact id, or `unknown_weights` of an endpoint."""
    source: BaseModelSource | None = None
    """The pinned base model: its own weights, those beneath its adapter, or those that an export has taken in, which is
    spoken to as its base model is. None for an endpoint."""
    artifact: str | None = None
    """Artifact id of a specialist."""
    adapter: Path | None = None
    """Sealed artifact folder with the LoRA adapter."""
    alone: Path | None = None
    """Sealed artifact folder of an export, whose weights stand alone."""
    endpoint: Endpoint | None = None
    """Where a baseline or a teacher answers."""

    @property
    def of_endpoint(self) -> str:
        """Whose endpoint it is, as errors say it. A baseline's name is one word; others say what they are."""
        return self.name if " " in self.name else f"the baseline {self.name}"

    @property
    def base(self) -> str | None:
        """Digest of the base model beneath an adapter; None where the weights stand alone."""
        return self.source.digest if self.source and self.artifact and not self.alone else None

    @property
    def chat(self) -> Chat:
        """How the model is spoken to."""
        spoken = self.endpoint or self.source
        return spoken.chat if spoken else Chat()


def open_substrate(workspace: Workspace, cluster: Cluster, target: Target, threads: int | None) -> Substrate:
    """The engine that answers for the target; weights are loaded, or a server started, when the first prompt comes.

    Raises:
        InvalidInput: ``key-missing`` when the environment lacks an endpoint's key; ``endpoint-not-allowed`` or
            ``endpoint-not-encrypted`` when nobody on this machine has allowed the endpoint or its key.
        InfrastructureFailure: ``extra-missing``.
    """
    if target.endpoint is not None:
        return _endpoint(workspace, target.endpoint, target.of_endpoint)
    assert target.source is not None
    return _pinned(workspace, target.source, target, cluster.engine, threads, of_cluster=cluster.base_model)


def engine_of(cluster: Cluster, target: Target) -> EngineFacts:
    """Facts of the engine that `open_substrate` would open, without a model, a server or a key.

    Raises:
        InfrastructureFailure: ``extra-missing`` or ``vllm-missing``.
    """
    if target.endpoint is not None:
        return endpoint_facts(target.endpoint)
    assert target.source is not None
    return _pinned_facts(target.source, cluster.engine)


def open_judge(workspace: Workspace, governed: GovernedSet) -> RememberingJudge | None:
    """The judge that the eval set names, with the clone's cache in front; or None.

    Raises:
        InvalidInput: as `open_substrate`.
    """
    model = governed.evalset.judge
    if model is None:
        return None
    from modelsmith.evaluation.judges.model import ModelJudge

    substrate, weights = _behind(workspace, model)
    return RememberingJudge(ModelJudge(substrate, model, weights), Cache(workspace.private / "cache"))


def open_metered_judge(workspace: Workspace, governed: GovernedSet, account: Account) -> Judge:
    """The judge that the eval set names, whose every question is charged to the account; nothing is in front of it.

    Raises:
        InvalidInput: as `open_substrate`.
    """
    from modelsmith.evaluation.judges.model import ModelJudge

    model = governed.evalset.judge
    assert model, "a set whose rubric has judged points names a judge"
    substrate, weights = _behind(workspace, model)
    return ModelJudge(MeteredSubstrate(substrate, account), model, weights)


def _behind(workspace: Workspace, model: JudgeModel) -> tuple[Substrate, str]:
    """What answers for a judge, and the digest of its weights or of what is known of them."""
    if model.base_model is not None:
        target = Target(f"the judge {model.name}", model.base_model.digest, model.base_model)
        substrate = _pinned(workspace, model.base_model, target, "transformers", None, of_cluster=model.base_model)
        return substrate, model.base_model.digest
    assert model.endpoint is not None
    return _endpoint(workspace, model.endpoint, f"the judge {model.name}"), unknown_weights(model.endpoint)


def reward_judge(workspace: Workspace, governed: GovernedSet) -> tuple[RewardJudge, Path | None] | None:
    """The judge of the set for a training's worker, with its folder of weights; None where nothing is judged.

    Raises:
        InvalidInput: as `open_substrate`, or as `resolve`.
        InfrastructureFailure: ``extra-missing``.
    """
    model = governed.evalset.judge
    if model is None or not judged_points(governed.rubric):
        return None
    from modelsmith.evaluation.judges.model import judge_identity
    from modelsmith.substrates.base_models import resolve
    from modelsmith.substrates.local_facts import local_facts

    if model.base_model is not None:
        source = model.base_model
        folder = resolve(source, workspace.root, workspace.models, workspace.models_memory).folder
        return RewardJudge(model=model, identity=judge_identity(local_facts(source.chat), model, source.digest)), folder
    assert model.endpoint is not None
    _endpoint(workspace, model.endpoint, f"the judge {model.name}").close()
    identity = judge_identity(endpoint_facts(model.endpoint), model, unknown_weights(model.endpoint))
    return RewardJudge(model=model, identity=identity), None


def _endpoint(workspace: Workspace, endpoint: Endpoint, name: str) -> Substrate:
    from modelsmith.substrates.endpoint.allowed import SETTING, entries, require_allowed
    from modelsmith.substrates.endpoint.substrate import EndpointSubstrate

    require_allowed(endpoint, entries(workspace.settings(SETTING), os.environ))
    return EndpointSubstrate(endpoint, name=name)


def _pinned(
    workspace: Workspace,
    source: BaseModelSource,
    target: Target,
    engine: str,
    threads: int | None,
    of_cluster: BaseModelSource,
) -> Substrate:
    def load() -> Substrate:
        return load_local(workspace, target, threads, of_cluster)

    def serve() -> Substrate:
        from modelsmith.substrates.adapter import require_fit
        from modelsmith.substrates.vllm.substrate import VllmSubstrate

        def waited(seconds: float) -> None:
            if round(seconds) % TOLD_EVERY == 0:
                workspace.notify(Progress("eval", f"starting a vLLM server with {served} ({seconds:.0f} s)"))

        served = target.name if target.alone else source.name
        adapter = (target.adapter, target.weights) if target.adapter else None
        log = workspace.private / "logs" / "vllm.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        model = _folder(workspace, source, target, of_cluster)
        if target.adapter:
            require_fit(model, target.adapter)
        return VllmSubstrate(model, adapter, log, waited, source.chat)

    return LazySubstrate(_pinned_facts(source, engine), serve if engine == "vllm" else load)


def load_local(
    workspace: Workspace, target: Target, threads: int | None, of_cluster: BaseModelSource
) -> TransformersSubstrate:
    """The target's weights, loaded into this process.

    Raises:
        InvalidInput: ``old-base-missing`` for an adapter whose base model is no longer at hand, or as `resolve`.
        InfrastructureFailure: as `TransformersSubstrate`.
    """
    from modelsmith.substrates.local import TransformersSubstrate

    assert target.source is not None
    source = target.source
    workspace.notify(Progress("eval", f"loading {target.name} ({source.name})"))
    folder = _folder(workspace, source, target, of_cluster)
    loaded = TransformersSubstrate(folder, target.adapter, threads, source.chat, whole=target.alone is not None)
    workspace.notify(Progress("eval", f"{target.name} is loaded"))
    return loaded


def _folder(workspace: Workspace, source: BaseModelSource, target: Target, of_cluster: BaseModelSource) -> Path:
    from modelsmith.substrates.base_models import resolve

    if target.alone is not None:
        return _weights_alone(workspace, target.alone)
    try:
        return resolve(source, workspace.root, workspace.models, workspace.models_memory).folder
    except InvalidInput as error:
        if source.digest == of_cluster.digest:
            raise
        raise base_missing(target.name, source, error.message) from error


def _weights_alone(workspace: Workspace, artifact: Path) -> Path:
    """Folder of safetensors of a checked export; what a GGUF file says in its own types is converted once."""
    export = export_of(artifact)
    if export is None or export.kind == "merged":
        return artifact
    from modelsmith.substrates.gguf import converted

    file = gguf_file(artifact)
    return converted(file, file_digest(file), workspace.models, workspace.models_memory)


def _pinned_facts(source: BaseModelSource, engine: str) -> EngineFacts:
    if engine == "vllm":
        from modelsmith.substrates.vllm.environment import find_python, vllm_facts

        return vllm_facts(find_python(), source.chat)
    from modelsmith.substrates.local_facts import local_facts

    return local_facts(source.chat)
