"""The specialists that serve on main."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import NamedTuple

from modelsmith.governance.routing import BASE, incumbent, render_routing
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.canonical import digest, sha256
from modelsmith.schema.cluster import Cluster, Routing
from modelsmith.schema.evalset import EvalSet


@dataclass(frozen=True)
class Arm:
    """One model that answers for a cluster."""

    specialist: str
    """Specialist id, or ``base``."""
    artifact: str | None
    record: str
    """Digest of the record that put it there; empty for the base model."""


class Traffic(NamedTuple):
    """Specialists who answer for a cluster, and how traffic is shared."""

    incumbent: Arm
    watched: Arm | None
    """The specialist under watch; None where none is."""
    share: float
    """Share of requests that the watched specialist gets."""


def traffic(main: GovernedState, cluster: str) -> Traffic:
    """The traffic of main's ``routing.yaml``, which is rendered from its records and verified with them.

    Raises:
        ModelsmithError: the file does not parse.
    """
    validated = incumbent(cluster, main.histories.of_cluster(cluster))
    path = f"clusters/{cluster}/routing.yaml"
    serving = parse_yaml(path, main.tree.read(path), Routing).serving if main.tree.exists(path) else ()
    watched = next((route for route in serving if route.specialist != validated.specialist), None)
    return Traffic(
        Arm(validated.specialist, validated.artifact, validated.record or ""),
        Arm(watched.specialist, watched.artifact, watched.record or "") if watched else None,
        watched.share if watched else 0.0,
    )


def routing_obeyed(main: GovernedState, cluster: str) -> str:
    """SHA-256 of the cluster's ``routing.yaml`` on main; of nothing before the first deployment, when there is none."""
    path = f"clusters/{cluster}/routing.yaml"
    return sha256(main.tree.read(path) if main.tree.exists(path) else b"")


def shadow(main: GovernedState, cluster: str) -> Arm | None:
    """The specialist that may answer copies of requests: the newest one that is exported and serves nobody.

    Of one iteration an export of its adapter is newer than the adapter. None is older than who serves, and none was
    taken back and not cleared since. Its record is the last of its history.
    """
    histories = main.histories.of_cluster(cluster)
    serves = max((history.iteration for history in histories if history.routed), default=0)
    waiting = [
        history
        for history in histories
        if history.state == "artifact-exported"
        and history.iteration >= serves
        and history.records[-1].event != "rolled-back"
    ]
    newest = max(waiting, key=lambda history: (history.iteration, history.is_export, history.specialist), default=None)
    return Arm(newest.specialist, newest.artifact, newest.digests[-1]) if newest else None


def shadowed_as(main: GovernedState, cluster: Cluster, arm: Arm) -> str:
    """By which name copies of requests are counted, for a specialist beside who serves.

    Counts under one name are all of the same comparison: of the specialist's last record, and as `compared` says. Where
    one of these changes, counting begins anew.
    """
    return f"{arm.record} beside {compared(main, cluster)}"


def compared(main: GovernedState, cluster: Cluster) -> str:
    """Digest of what copies of a cluster's requests compare by: routing, rule, base model, rubric, prompt, sampling.

    Raises:
        ModelsmithError: the eval set's file does not parse.
    """
    path = f"evals/{cluster.eval_set}/evalset.yaml"
    evalset = parse_yaml(path, main.tree.read(path), EvalSet)
    rubric = main.tree.read(posixpath.normpath(f"evals/{cluster.eval_set}/{evalset.rubric}"))
    settings = (cluster.rollback, cluster.base_model, evalset.prompt, evalset.sampling)
    beside = [
        routing_obeyed(main, cluster.cluster),
        sha256(rubric),
        *(digest(setting.model_dump(mode="json")) for setting in settings),
    ]
    return digest(beside)


def serving(main: GovernedState, cluster: str) -> tuple[str, ...]:
    """Specialists with a share of the cluster's traffic, as its routing lists them; none where the base model serves.

    Raises:
        ModelsmithError: the cluster's settings do not load.
    """
    histories = main.histories.of_cluster(cluster)
    if not any(history.routed for history in histories):
        return ()
    share = load_cluster(main.tree, cluster).deployment.traffic_share
    listed = render_routing(cluster, histories, share).serving
    return tuple(entry.specialist for entry in listed if entry.specialist != BASE)


def all_serving(main: GovernedState) -> set[str]:
    """`serving` of every cluster together."""
    clusters = {history.cluster for history in main.histories.by_specialist.values()}
    return {specialist for cluster in clusters for specialist in serving(main, cluster)}
