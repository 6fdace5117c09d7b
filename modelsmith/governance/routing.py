"""Who serves which share of a cluster's requests, rendered from promotion records in the order of their chain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from modelsmith.governance.hold import Hold
from modelsmith.governance.routing_chain import RoutingChain, Standing, broken_chain, folded_chain, routing_chain
from modelsmith.governance.states import SpecialistHistory
from modelsmith.schema.canonical import sha256
from modelsmith.schema.cluster import Routing, Serving

BASE = "base"
"""Name of the cluster's base model among those that serve."""

HEADER = "# rendered from promotion records; do not edit\n"


class Incumbent(NamedTuple):
    """The model that a candidate is compared with and that a rollback returns to."""

    specialist: str
    """Specialist id, or ``base``."""
    artifact: str | None
    record: str | None
    """Digest of the record that validated it."""


def hold_of(cluster: str, histories: Sequence[SpecialistHistory]) -> Hold | None:
    """Why nothing may be deployed to the cluster now; None when it is not on hold. Raises as `routing_chain`."""
    return folded_chain(histories).hold


def latest_deployment(histories: Sequence[SpecialistHistory]) -> SpecialistHistory | None:
    """The specialist that was deployed last among those whose deployment still stands; None when none does."""
    routed = {history.specialist: history for history in histories if history.routed}
    deployed = [r for r, _ in routing_chain(histories) if r.event == "customer-deployed" and r.specialist in routed]
    return routed[deployed[-1].specialist] if deployed else None


def last_routing_record(histories: Sequence[SpecialistHistory]) -> str | None:
    """Digest that the next record of the chain must name as ``expected_previous``; None when there was none yet."""
    return folded_chain(histories).last


def incumbent(cluster: str, histories: Sequence[SpecialistHistory]) -> Incumbent:
    """The latest production-validated specialist, else the base model.

    A customer-deployed specialist is under watch, whatever its share: it is not yet what others are measured against.
    """
    chain = _chain_of(cluster, histories)
    validated = chain.validated
    if validated is None:
        return Incumbent(BASE, None, None)
    record, digest = chain.links[validated.at]
    return Incumbent(record.specialist, record.artifact, digest)


def render_routing(cluster: str, histories: Sequence[SpecialistHistory], traffic_share: float) -> Routing:
    """The routing file after all records of the cluster.

    The specialist under watch (the latest customer-deployed one, if deployed after the incumbent was) serves
    ``traffic_share``, in 0 to 1; the incumbent serves the rest. Others are superseded and serve nothing, until a
    rollback or deprecation makes them the latest again.
    """
    chain = _chain_of(cluster, histories)
    validated, watched = chain.validated, chain.watched
    share = Decimal(repr(traffic_share)) if watched else Decimal(0)
    rest = float(1 - share)
    serving: list[Serving] = []
    if rest > 0:
        serving.append(_serving(chain, validated, rest))
    if watched:
        serving.append(_serving(chain, watched, float(share)))
    return Routing(cluster=cluster, serving=tuple(serving))


def routing_digest(routing: Routing) -> str:
    """SHA-256 of the exact bytes of ``routing.yaml``."""
    return sha256(routing_yaml(routing))


def routing_yaml(routing: Routing) -> bytes:
    """The exact bytes of ``routing.yaml``; strings are always quoted, so that no name reads as another type."""
    lines = [HEADER, f"cluster: {json.dumps(routing.cluster)}\n", "serving:\n"]
    for entry in routing.serving:
        lines.append(f"- specialist: {json.dumps(entry.specialist)}\n")
        lines.append(f"  artifact: {json.dumps(entry.artifact)}\n")
        lines.append(f"  share: {_plain(entry.share)}\n")
        lines.append(f"  record: {json.dumps(entry.record)}\n")
    return "".join(lines).encode()


def _chain_of(cluster: str, histories: Sequence[SpecialistHistory]) -> RoutingChain:
    """The chain of histories that must be those of this cluster."""
    if histories and histories[0].cluster != cluster:
        raise broken_chain(
            "mixed-clusters", cluster, f"Routing of {cluster} is asked for with lives of other clusters."
        )
    return folded_chain(histories)


def _serving(chain: RoutingChain, standing: Standing | None, share: float) -> Serving:
    if standing is None:
        return Serving(specialist=BASE, artifact=None, share=share, record=None)
    record, digest = chain.links[standing.at]
    return Serving(specialist=record.specialist, artifact=record.artifact, share=share, record=digest)


def _plain(share: float) -> str:
    """Decimal notation with a point: YAML 1.1 reads ``1e-05`` as text."""
    text = format(Decimal(repr(share)), "f")
    return text if "." in text else f"{text}.0"
