"""Which files an event's folder holds: an allow-list, so that nothing rides along that nobody checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from modelsmith.governance.audiences import for_reviewers
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.packets import CHART_FILE, CURVE_FILE, PACKET_FILE
from modelsmith.promotion.proposed import Promotion, refuse
from modelsmith.schema.base import Event
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE
from modelsmith.schema.live_evidence import LIVE_FILE, LIVE_SIGNATURE
from modelsmith.schema.promotion import (
    CLEARANCE_FILE,
    EXPORT_FILE,
    OVERRIDE_FILE,
    RECORD_FILE,
    RECORD_SIGNATURE,
    ROLLBACK_FILE,
    TRAINING_FILE,
)
from modelsmith.signing.files import SIGNATURE_FILE, SUMS_FILE


class Files(NamedTuple):
    """Names of files beside the record and its signature, which every event has."""

    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    either: frozenset[str] = frozenset()
    """Exactly one of these."""


FILES: Final[Mapping[Event, Files]] = {
    "candidate": Files(frozenset(), either=frozenset({TRAINING_FILE, EXPORT_FILE})),
    "eval-accepted": Files(
        frozenset({EVIDENCE_FILE, EVIDENCE_SIGNATURE, PACKET_FILE, CHART_FILE}), frozenset({OVERRIDE_FILE, CURVE_FILE})
    ),
    "artifact-exported": Files(frozenset({SUMS_FILE, SIGNATURE_FILE})),
    "customer-deployed": Files(
        frozenset({PACKET_FILE, CHART_FILE}), frozenset({CURVE_FILE, LIVE_FILE, LIVE_SIGNATURE})
    ),
    "production-validated": Files(
        frozenset({PACKET_FILE, CHART_FILE}), frozenset({CURVE_FILE, LIVE_FILE, LIVE_SIGNATURE})
    ),
    "rolled-back": Files(frozenset({ROLLBACK_FILE, PACKET_FILE}), frozenset({LIVE_FILE, LIVE_SIGNATURE})),
    "hold-cleared": Files(frozenset({PACKET_FILE}), frozenset({CLEARANCE_FILE})),
    "deprecated": Files(frozenset({PACKET_FILE})),
}
"""By event. An event without a packet has none: what reviewers read of it is its record."""


def check_files(promotion: Promotion) -> str:
    """The folder holds what its event calls for and nothing else, and the record covers each file."""
    record, names = promotion.record, set(promotion.files)
    due = FILES[record.event]
    own = {RECORD_FILE, RECORD_SIGNATURE}
    refuse(names != set(record.evidence) | own, "the folder holds other files than the record covers")
    missing = sorted(due.required - names)
    refuse(bool(missing), f"{', '.join(missing)} missing")
    if due.either:
        refuse(not names & due.either, f"{' or '.join(sorted(due.either, reverse=True))} missing")
        refuse(due.either <= names, "the candidate is said to be both trained and an export")
    if CURVE_FILE in due.optional:
        refuse(
            (CURVE_FILE in names) != _tells_of_training(promotion), f"{CURVE_FILE} goes with evidence that has curves"
        )
    surplus = sorted(names - due.required - due.optional - due.either - own)
    refuse(bool(surplus), f"{', '.join(ascii(name) for name in surplus)} has no place in the folder of {record.event}")
    return f"{len(names)} files, each covered by the record"


def _tells_of_training(promotion: Promotion) -> bool:
    """Whether reviewers are shown how the training of this specialist went."""
    main, record = promotion.main, promotion.record
    details = (
        promotion.evidence
        if record.event == "eval-accepted"
        else evidence_of(main, main.histories.find(record.specialist))
    )
    return bool(for_reviewers(details, main.policy.audiences).training.curves)
