"""Who serves on main."""

from __future__ import annotations

from modelsmith.governance.routing import BASE, render_routing
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster


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
