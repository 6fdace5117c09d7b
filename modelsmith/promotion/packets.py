"""What a reviewer reads, as files beside the record: the rendering of the evidence, whoever prepares or checks it."""

from __future__ import annotations

from modelsmith.evidence.chart import chart
from modelsmith.evidence.packet import Asked, packet
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.promotion import PromotionRecord

PACKET_FILE = "packet.md"
CHART_FILE = "chart.svg"


def packet_files(evidence: Evidence, cluster: Cluster, record: PromotionRecord | None) -> dict[str, bytes]:
    """Packet and chart; ``record`` is what people are asked for, None beside the evidence itself."""
    asked = None
    if record is not None:
        asked = Asked(record.event, record.requested_by, record.prepared_by, record.required_approvers, record.rollback)
    return {PACKET_FILE: packet(evidence, cluster, asked).encode(), CHART_FILE: chart(evidence).encode()}
