"""What a reviewer reads, as files beside the record: rendered from record and main, whoever prepares or checks it."""

from __future__ import annotations

from collections.abc import Mapping

from modelsmith.evidence.chart import chart
from modelsmith.evidence.lineage_section import CURVE, training_picture
from modelsmith.evidence.live_notice import live_section
from modelsmith.evidence.notices import hold_notice, override_notice, retirement_notice, rollback_notice
from modelsmith.evidence.packet import PacketRequest, packet
from modelsmith.evidence.second_look import observers_section
from modelsmith.governance.audiences import for_reviewers
from modelsmith.governance.rollback import readiness
from modelsmith.governance.routing import hold_of, render_routing
from modelsmith.promotion.bases import exports_of
from modelsmith.promotion.freshness import evidence_of, read_evidence
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.live import read_live
from modelsmith.promotion.observers import backing, required
from modelsmith.promotion.overrides import Overridden, asked_override, override_of
from modelsmith.promotion.records import cluster_histories_after
from modelsmith.promotion.rollbacks import deployment_of, read_clearance, read_order, recorded_order, rollback_decision
from modelsmith.promotion.since import trail
from modelsmith.repository.load import load_cluster
from modelsmith.schema.base import Event
from modelsmith.schema.cluster import Cluster, Routing
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence
from modelsmith.schema.live_evidence import LiveEvidence
from modelsmith.schema.promotion import PromotionRecord

PACKET_FILE = "packet.md"
CHART_FILE = "chart.svg"
CURVE_FILE = CURVE
"""There where the evidence tells how the training went."""


def packet_files(main: GovernedState, record: PromotionRecord, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The packet of the event, with its pictures where it has any; nothing for an event that is the harness's alone.

    Args:
        main: Main before the event.
        record: What is asked for. What it says of the packet itself plays no part.
        files: The event's other files, by name.

    Raises:
        IntegrityFailure: what the packet tells of cannot be read.
        InvalidInput: ``not-deployed``, an unknown cluster.
    """
    cluster = load_cluster(main.tree, record.cluster)
    match record.event:
        case "eval-accepted":
            evidence = read_evidence(files.get(EVIDENCE_FILE, b""))
            return _evidence_packet(main, evidence, cluster, None, asked_override(main, files))
        case "customer-deployed" | "production-validated":
            history = main.histories.find(record.specialist)
            visible = for_reviewers(evidence_of(main, history), main.policy.audiences)
            live = read_live(files)
            return _evidence_packet(main, visible, cluster, record, override_of(main, history), live)
        case "rolled-back":
            return {PACKET_FILE: _rollback(main, cluster, record, files).encode()}
        case "hold-cleared":
            return {PACKET_FILE: _hold(main, cluster, record, files).encode()}
        case "deprecated":
            return {PACKET_FILE: _retirement(main, cluster, record).encode()}
        case _:
            return {}


def _evidence_packet(
    main: GovernedState,
    evidence: Evidence,
    cluster: Cluster,
    record: PromotionRecord | None,
    override: Overridden | None,
    live: LiveEvidence | None = None,
) -> dict[str, bytes]:
    """``record`` is what people are asked for; None beside the evidence itself."""
    request = None
    if record is not None:
        support = backing(main, main.histories.find(record.specialist))
        request = PacketRequest(
            event=record.event,
            requested_by=record.requested_by,
            prepared_by=record.prepared_by,
            required_approvers=record.required_approvers,
            rollback=record.rollback,
            routing=_around(main, cluster, record),
            on_call=tuple((role, _holders(main, role)) for role in _deciders(main, "rolled-back")),
            observers=observers_section(
                *required(main, record.event),
                (*support.agreeing, *support.disagreeing),
                support.retrained,
                support.uncounted,
            ),
            validators=_deciders(main, "production-validated") if record.event == "customer-deployed" else (),
            live=live_section(live, record.event == "customer-deployed") if live else "",
        )
    notice = override_notice(*override) if override else ""
    text = packet(evidence, cluster, request, trail(main, cluster, evidence), notice)
    curve = training_picture(evidence)
    pictures = {CHART_FILE: chart(evidence)} | ({CURVE_FILE: curve} if curve else {})
    return {PACKET_FILE: text.encode(), **{name: picture.encode() for name, picture in pictures.items()}}


def _deciders(main: GovernedState, event: Event) -> tuple[str, ...]:
    """Roles that the policy lets decide about an event."""
    return tuple(sorted({transition.gate for transition in main.policy.transitions if transition.event == event}))


def _holders(main: GovernedState, role: str) -> tuple[str, ...]:
    return tuple(sorted(person.id for person in main.people.people if role in person.roles))


def _rollback(main: GovernedState, cluster: Cluster, record: PromotionRecord, files: Mapping[str, bytes]) -> str:
    order, deployment = read_order(files), deployment_of(main, record.specialist)
    ready = readiness(deployment.contract, deployment.approved_at, order.decided_at)[1]
    return rollback_notice(
        deployment.record,
        order,
        rollback_decision(main, record, order),
        ready,
        _around(main, cluster, record),
        record.required_approvers,
        read_live(files),
    )


def _hold(main: GovernedState, cluster: Cluster, record: PromotionRecord, files: Mapping[str, bytes]) -> str:
    hold = hold_of(record.cluster, main.histories.of_cluster(record.cluster))
    if hold is None:
        raise IntegrityFailure(
            "cleared-without-hold",
            f"{record.cluster} is not on hold",
            "Prepare the promotion again.",
            cluster=record.cluster,
        )
    clearance = read_clearance(files, hold)
    history = main.histories.find(hold.specialist)
    began = recorded_order(main, history.records[history.digests.index(hold.record)])
    reason = clearance.reason if clearance else ""
    return hold_notice(hold, began, _around(main, cluster, record)[0], record.required_approvers, reason)


def _retirement(main: GovernedState, cluster: Cluster, record: PromotionRecord) -> str:
    watched = [
        (other.specialist, deployment_of(main, other.specialist).contract)
        for other in main.histories.of_cluster(record.cluster)
        if other.state == "customer-deployed" and other.specialist != record.specialist
    ]
    history = main.histories.find(record.specialist)
    exports = [child for child in exports_of(main, history) if child.state != "deprecated"]
    return retirement_notice(history, _around(main, cluster, record), watched, record.required_approvers, exports)


def _around(main: GovernedState, cluster: Cluster, record: PromotionRecord) -> tuple[Routing, Routing]:
    """The cluster's routing before and after the record."""
    name, share = cluster.cluster, cluster.deployment.traffic_share
    histories = main.histories.of_cluster(name), cluster_histories_after(main, record)
    before, after = (render_routing(name, some, share) for some in histories)
    return before, after
