"""The base model beneath an adapter: the one that the sealed artifact names, wherever the cluster has moved since."""

from __future__ import annotations

from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.catalog import CLUSTER_DEFAULTS
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.source import BaseModelSource


def base_source(workspace: Workspace, cluster: Cluster, name: str, digest: str, at: str = "HEAD") -> BaseModelSource:
    """Where the base model of this digest comes from: the cluster's own, else the last that its history pinned.

    ``name`` is the model that needs it, for messages; ``at`` is the commit whose history counts.

    Raises:
        InvalidInput: ``unknown-base`` when the cluster never named it.
    """
    if cluster.base_model.digest == digest:
        return cluster.base_model
    files = (f"clusters/{cluster.cluster}/cluster.yaml", CLUSTER_DEFAULTS)
    for commit in workspace.git.text("log", "--first-parent", "--format=%H", at, "--", *files).split():
        try:
            earlier = load_cluster(workspace.revision(commit), cluster.cluster).base_model
        except InvalidInput:
            continue
        if earlier.digest == digest:
            return earlier
    raise InvalidInput(
        "unknown-base",
        f"{name} comes from the base model {digest[:19]}..., and neither the cluster {cluster.cluster} nor its "
        "history names one with that digest.",
        "An adapter answers over its own base only, and an export is spoken to as its base is: have the cluster's "
        f"base_model name it, or run `modelsmith iterate {cluster.cluster}` for a specialist over today's.",
        base=digest,
        cluster_base=cluster.base_model.digest,
    )


def base_missing(name: str, source: BaseModelSource, why: str) -> InvalidInput:
    """The error for a specialist whose base model the cluster has left, and which is not at hand either."""
    return InvalidInput(
        "old-base-missing",
        f"{name} is an adapter over {source.name} ({source.digest[:19]}...), which the cluster no longer names and "
        f"which cannot be had from {source.uri}: {why}",
        "Put those weights back where they were, or retire the specialist: it answers over no other base model.",
        base=source.digest,
    )
