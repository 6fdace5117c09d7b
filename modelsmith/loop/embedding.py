"""The embedding model that policy names, found on this machine by its digest. Nothing is ever downloaded for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from modelsmith.diagnosis.meaning import Meaning
from modelsmith.repository.load import load_policy
from modelsmith.repository.tree import Tree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.catalog import POLICY
from modelsmith.schema.embedding import EmbeddingModel
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.governance import Policy
from modelsmith.schema.progress import Progress
from modelsmith.schema.source import BaseModelSource
from modelsmith.substrates.base_models import look, resolve
from modelsmith.substrates.embedder import Embedder
from modelsmith.substrates.kept_vectors import KeptVectors

MISSING: Final = "embedding-missing"


def embedder_of(workspace: Workspace, policy: Policy | None, *, anew: bool = False) -> Embedder | None:
    """The policy's embedding model, loaded when the first unknown text comes; None where policy names none.

    ``anew``: vectors that this clone has kept are not believed.
    """
    if policy is None or policy.embedding is None:
        return None
    model = policy.embedding
    folder = None if anew else workspace.private / "cache"
    return KeptVectors(model, lambda: _open(workspace, model), folder)


def meaning_of(workspace: Workspace, policy: Policy | None, *, anew: bool = False) -> Meaning | None:
    """The firewall's limits in meaning; None where policy sets none."""
    embedder = embedder_of(workspace, policy, anew=anew)
    most = policy.firewall.most_cosine if policy and policy.firewall else {}
    return Meaning(embedder, most) if embedder and most else None


def policy_in(tree: Tree) -> Policy | None:
    """The policy of a tree, where it has one."""
    return load_policy(tree) if tree.exists(POLICY) else None


def find_weights(workspace: Workspace, model: EmbeddingModel) -> Path:
    """Folder of the weights, every byte as pinned; a GGUF file is converted once.

    Raises:
        InfrastructureFailure: ``embedding-missing`` when they are not on this machine; as `resolve`.
        IntegrityFailure: ``base-model-digest`` when they are not the pinned ones.
    """
    return weights_of(workspace, model.source, lambda why: _missing(model, why))


def weights_of(workspace: Workspace, source: BaseModelSource, missing: Callable[[str], InfrastructureFailure]) -> Path:
    """Folder of weights that are never fetched, every byte as pinned; a GGUF file is converted once.

    Raises:
        InfrastructureFailure: what ``missing`` makes of why they are not on this machine; as `resolve`.
        IntegrityFailure: ``base-model-digest`` when they are not the pinned ones.
    """
    try:
        if source.uri.startswith("hf://"):
            folder = look(source, workspace.root)
        else:
            folder = resolve(source, workspace.root, workspace.models, workspace.models_memory).folder
    except InvalidInput as error:
        raise missing(error.message) from error
    if folder is None:
        raise missing(f"{source.uri} was not fetched to this machine")
    return folder


def _open(workspace: Workspace, model: EmbeddingModel) -> Embedder:
    from modelsmith.substrates.local_facts import local_facts

    local_facts(model.source.chat)
    folder = find_weights(workspace, model)
    workspace.notify(Progress("embed", f"loading the embedding model {model.name}"))
    from modelsmith.substrates.embedding import LocalEmbedder

    return LocalEmbedder(model, folder)


def _missing(model: EmbeddingModel, why: str) -> InfrastructureFailure:
    return InfrastructureFailure(
        MISSING,
        f"The embedding model {model.name} of policy.yaml cannot be used: {why.rstrip('.')}.",
        "Put its folder, as the digest pins it, where embedding.uri says. The toolkit downloads no embedding model.",
        model=model.name,
        uri=model.uri,
    )
