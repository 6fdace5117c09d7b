"""Rolled-back records against main: what they undo, when that was deployed, and whether its contract covers them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from modelsmith.governance.gate import Contract
from modelsmith.governance.hold import Hold
from modelsmith.governance.keys import CLOCK_TOLERANCE
from modelsmith.governance.rollback import RollbackDecision, decide_rollback, window_refusal
from modelsmith.governance.routing import incumbent
from modelsmith.governance.shape import promotion_folder
from modelsmith.governance.states import parse_folder, record_folder
from modelsmith.promotion.attestation import approved_at
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import RECEIPTS, parse_record
from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.promotion.records import RecordDraft, cluster_histories_after, next_record, routing_after
from modelsmith.repository.load import load_machine_file
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import digest, is_plain_canonical, parse_canonical, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.live import LiveWindow
from modelsmith.schema.live_evidence import LIVE_FILE
from modelsmith.schema.promotion import (
    CLEARANCE_FILE,
    RECORD_FILE,
    ROLLBACK_FILE,
    HoldClearance,
    PromotionRecord,
    Receipt,
    RollbackContract,
    RollbackOrder,
)
from modelsmith.schema.pull import Change
from modelsmith.schema.steps import step


class Deployment(NamedTuple):
    """The deployment that a rollback undoes."""

    record: PromotionRecord
    contract: RollbackContract
    approved_at: datetime | None
    """Time of the last approval that its receipts hold; None when they hold none."""


def deployment_of(main: GovernedState, specialist: str) -> Deployment:
    """A specialist's latest deployment.

    Raises:
        InvalidInput: ``unknown-specialist``, ``not-deployed``.
    """
    history = main.histories.find(specialist)
    for record in reversed(history.records):
        if record.event == "customer-deployed" and record.rollback:
            folder = f"{record_folder(record)}/{RECEIPTS}"
            receipt = load_machine_file(main.tree, f"{folder}/{MERGE_RECEIPT}", Receipt)
            proofs = [(actor, f"{folder}/{name}") for actor, name in receipt.approvals.items()]
            times = [approved_at(main.people, actor, path, main.tree.read(path)) for actor, path in proofs]
            return Deployment(record, record.rollback, max(times, default=None))
    raise InvalidInput(
        "not-deployed",
        f"{specialist} was never deployed",
        "See `{next}`.",
        specialist=specialist,
    ).then(step("status", {}))


def order_for(
    main: GovernedState,
    draft: RecordDraft,
    reason: str,
    decided_at: datetime,
    window: LiveWindow | None = None,
    live: str | None = None,
) -> RollbackOrder:
    """The rollback order of the specialist, as of now.

    ``window`` is what live traffic showed, or ``live`` the digest of live evidence, if that is why.

    Raises:
        InvalidInput: ``not-deployed``; ``bad-transition`` when its deployment does not stand.
    """
    after = incumbent(draft.cluster.cluster, cluster_histories_after(main, next_record(main, "rolled-back", draft, {})))
    return RollbackOrder(
        undoes=digest(deployment_of(main, draft.specialist).record),
        prior_specialist=after.specialist,
        prior_artifact=after.artifact,
        trigger="metric" if window or live else "manual",
        reason=reason,
        decided_at=decided_at,
        window=window,
        live=live,
    )


def read_order(files: Mapping[str, bytes]) -> RollbackOrder:
    """The order among the files of a rolled-back folder.

    Raises:
        IntegrityFailure: ``bad-rollback`` when it is missing, malformed or not canonical.
    """
    data = files.get(ROLLBACK_FILE, b"")
    try:
        return parse_canonical(ROLLBACK_FILE, data, RollbackOrder)
    except IntegrityFailure:
        raise IntegrityFailure(
            "bad-rollback",
            f"{ROLLBACK_FILE} is not a rollback order in canonical JSON and plain text",
            "Prepare the rollback again.",
        ) from None


def read_clearance(files: Mapping[str, bytes], hold: Hold) -> HoldClearance | None:
    """The words of a hold-cleared event about this hold; None where nobody gave any.

    Raises:
        IntegrityFailure: ``bad-clearance`` when they are malformed, not canonical or about another hold.
    """
    data = files.get(CLEARANCE_FILE)
    if data is None:
        return None
    try:
        clearance = HoldClearance.model_validate_json(data)
    except ValueError:
        clearance = None
    if clearance is None or not is_plain_canonical(data, clearance) or clearance.clears != hold.record:
        raise IntegrityFailure(
            "bad-clearance", f"{CLEARANCE_FILE} does not say in canonical JSON why this hold may end", "Ask again."
        )
    return clearance


def recorded_order(main: GovernedState, record: PromotionRecord) -> RollbackOrder:
    """The order of a rollback that main holds."""
    return read_order({ROLLBACK_FILE: main.tree.read(f"{record_folder(record)}/{ROLLBACK_FILE}")})


def check_order(main: GovernedState, record: PromotionRecord, order: RollbackOrder) -> str:
    """The order undoes the specialist's latest deployment and names who is the incumbent after it.

    Live evidence that it rests on lies beside it; whether that shows a loss is a check of its own.

    A live window that it rests on must show the loss of which the contract speaks.

    Raises:
        IntegrityFailure: ``bad-rollback``.
    """
    deployment, contract, approved = deployment_of(main, record.specialist)
    after = incumbent(record.cluster, cluster_histories_after(main, record))
    for wrong, problem in (
        (order.undoes != digest(deployment), "another record than the specialist's latest deployment"),
        (order.prior_specialist != after.specialist, f"a return to another specialist than {after.specialist}"),
        (order.prior_artifact != after.artifact, f"another artifact than that of {after.specialist}"),
        (order.live != record.evidence.get(LIVE_FILE), f"another {LIVE_FILE} than lies beside it"),
    ):
        if wrong:
            raise IntegrityFailure("bad-rollback", f"{ROLLBACK_FILE} names {problem}", "Prepare the rollback again.")
    refusal = window_refusal(order, contract, approved)
    if refusal:
        raise IntegrityFailure(
            "bad-rollback", f"{ROLLBACK_FILE}: {refusal}", "Prepare the rollback again.", refusal=refusal
        )
    return f"undoes {record_folder(deployment).rpartition('/')[2]}; {after.specialist} is the incumbent after it"


def rollback_decision(main: GovernedState, record: PromotionRecord, order: RollbackOrder) -> RollbackDecision:
    """Whether the contract approved with the deployment covers this rollback, by what main and the order say."""
    deployment = deployment_of(main, record.specialist)
    return decide_rollback(
        contract=deployment.contract,
        deployed_at=deployment.approved_at,
        state=record.from_state,
        order=order,
        routing_after=sha256(routing_after(main, record)),
    )


def is_present(order: RollbackOrder, now: datetime) -> bool:
    """Whether the order is dated now, as far as clocks agree."""
    return abs(now - order.decided_at) <= CLOCK_TOLERANCE


def date_doubt(order: RollbackOrder, now: datetime | None, latest_signed: datetime) -> str | None:
    """Why the order's date is not to be believed; None when nothing speaks against it.

    Else a rollback could be dated back into the window. Without ``now`` (in a replay) there is no clock but what others
    have signed: whoever asked for it saw a main that holds this already, and neither clock was more than the tolerance
    away from the one that judged.

    Args:
        order: What is asked for.
        now: The present of whoever merges; None when history is replayed.
        latest_signed: A time that the merge is not before, since it is signed on main or in the opening.
    """
    then = f"it was asked for at {_words(order.decided_at)}"
    if now and not is_present(order, now):
        return f"{then}, which is not now"
    if order.decided_at < latest_signed - 2 * CLOCK_TOLERANCE:
        return f"{then}, but something that was signed at {_words(latest_signed)} came before it"
    return None


def _words(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def who_decides(
    main: GovernedState, record: PromotionRecord, order: RollbackOrder, now: datetime | None, latest_signed: datetime
) -> str:
    """For people: whether the contract decides, or why a person does. Times are as in `date_doubt`."""
    verdict = rollback_decision(main, record, order)
    doubt = date_doubt(order, now, latest_signed)
    if verdict.automatic and doubt:
        return f"outside the contract: {doubt}; ask again, or have it approved"
    return verdict.sentence


def contract_for(
    main: GovernedState, proposed: Revision, change: Change, now: datetime | None, latest_signed: datetime
) -> Contract | None:
    """The contract that speaks for a change whose checks have all passed; None when people must be asked.

    ``now`` and ``latest_signed`` are as in `date_doubt`.
    """
    folder = next(name for path in change.paths if (name := promotion_folder(path.path)))
    if parse_folder(folder).event != "rolled-back":
        return None
    record = parse_record(f"{folder}/{RECORD_FILE}", proposed.read(f"{folder}/{RECORD_FILE}"))
    order = read_order({ROLLBACK_FILE: proposed.read(f"{folder}/{ROLLBACK_FILE}")})
    if not rollback_decision(main, record, order).automatic or date_doubt(order, now, latest_signed):
        return None
    return Contract(folder, record_folder(deployment_of(main, record.specialist).record).rpartition("/")[2])
