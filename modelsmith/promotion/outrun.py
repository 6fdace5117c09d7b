"""Proposals that main has outrun: their specialist's history, or their cluster's traffic, has gone on without them."""

from __future__ import annotations

from modelsmith.governance.routing import last_routing_record
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness
from modelsmith.repository.load import load_machine_file
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.promotion import RECORD_FILE, PromotionRecord

_BRANCHES = "promote/"


def close_outrun(harness: Harness, main: GovernedState) -> tuple[int, ...]:
    """Close this harness's open proposals that can never be merged any more, each with the reason; their numbers.

    They would wait for nobody: after a rollback, nobody can approve what was to follow the deployment.
    """
    closed = []
    for pull in harness.forge.list("open"):
        if not pull.branch.startswith(_BRANCHES) or pull.preparer != harness.actor:
            continue
        path = f"promotions/{pull.branch.removeprefix(_BRANCHES)}/{RECORD_FILE}"
        try:
            record = load_machine_file(harness.workspace.revision(pull.head), path, PromotionRecord)
        except (IntegrityFailure, InvalidInput):
            continue
        reason = outrun(record, main)
        if reason:
            harness.forge.close(pull.number, reason)
            closed.append(pull.number)
    return tuple(closed)


def outrun(record: PromotionRecord, main: GovernedState) -> str:
    """Why a proposed record can no longer follow what is on main; empty when it still can."""
    history = main.histories.by_specialist.get(record.specialist)
    last = history.records[-1] if history else None
    if record.sequence != (last.sequence + 1 if last else 1):
        return f"{record.specialist} has gone on without it: {last.event if last else 'nothing'} is on main"
    tip = last_routing_record(main.histories.of_cluster(record.cluster))
    if record.expected_previous not in (None, tip):
        return f"the traffic of {record.cluster} has changed since it was prepared"
    return ""
