"""Taking a deployment back, ending the hold that follows, and retiring a specialist: each by pull request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType

from modelsmith.evidence.sanitise import assert_clean, machine_names
from modelsmith.governance.hold import Hold
from modelsmith.governance.rollback import window_refusal
from modelsmith.governance.states import SpecialistHistory, folder_of
from modelsmith.loop.promotions import advance
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.packets import PACKET_FILE, packet_files
from modelsmith.promotion.pulls import branch_of
from modelsmith.promotion.records import RecordDraft, next_record
from modelsmith.promotion.rollbacks import (
    deployment_of,
    is_present,
    order_for,
    read_clearance,
    read_order,
    rollback_decision,
)
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.live import LiveWindow
from modelsmith.schema.live_evidence import LIVE_FILE
from modelsmith.schema.promotion import CLEARANCE_FILE, ROLLBACK_FILE, HoldClearance, RollbackOrder
from modelsmith.schema.pull import PullRequest


def roll_back(
    harness: Harness,
    main: GovernedState,
    cluster: Cluster,
    history: SpecialistHistory,
    reason: str,
    window: LiveWindow | None,
    live: Mapping[str, bytes] = MappingProxyType({}),
) -> PullRequest:
    """Undo the specialist's deployment: merged at once within its contract, left open for a person outside it.

    An open pull request of the same rollback is adopted while what it says of the time still holds. ``window`` is what
    live traffic showed, or ``live`` the files of live evidence, if that is why.

    Raises:
        InvalidInput: ``bad-transition`` when the deployment does not stand; ``private-reason``, ``no-reason``;
            ``no-loss`` when the window does not show what the contract calls a loss.
        GateNotCleared: an owner rejected it, or a check failed.
    """
    require_clean_reason(reason, main, cluster)
    now = datetime.now(UTC).replace(microsecond=0)
    draft = _draft(harness, cluster, history)
    fresh = order_for(main, draft, reason, now, window, sha256(live[LIVE_FILE]) if live else None)
    _require_loss(main, fresh, history)
    order = _standing_order(harness, main, draft, fresh) or fresh
    if not order.reason and order.trigger == "manual":
        raise InvalidInput(
            "no-reason", "A rollback moves traffic, and nothing says why", "Say it: --reason 'the watched figure fell'."
        )
    files = {ROLLBACK_FILE: canonical_json(order), **live}
    record = next_record(main, "rolled-back", draft, files)
    files |= packet_files(main, record, files)
    body = files[PACKET_FILE].decode()
    return advance(harness, main, "rolled-back", draft, files, f"{history.specialist}: rolled back", body)


def clear_hold(harness: Harness, main: GovernedState, cluster: Cluster, hold: Hold, reason: str) -> PullRequest:
    """Ask for the end of a cluster's hold. Without a reason, that of this harness's open request for it stands."""
    require_clean_reason(reason, main, cluster)
    history = main.histories.find(hold.specialist)
    draft = _draft(harness, cluster, history)
    reason = reason or _standing_words(harness, history, hold)
    record = next_record(main, "hold-cleared", draft, {})
    files = {CLEARANCE_FILE: canonical_json(HoldClearance(clears=hold.record, reason=reason))} if reason else {}
    files |= packet_files(main, record, files)
    body = files[PACKET_FILE].decode()
    return advance(harness, main, "hold-cleared", draft, files, f"{cluster.cluster}: clear the hold", body)


def retire(harness: Harness, main: GovernedState, cluster: Cluster, history: SpecialistHistory) -> PullRequest:
    """Ask for a specialist's deprecation; when it serves, routing returns to who served before."""
    draft = _draft(harness, cluster, history)
    record = next_record(main, "deprecated", draft, {})
    files = packet_files(main, record, {})
    body = files[PACKET_FILE].decode()
    return advance(harness, main, "deprecated", draft, files, f"{history.specialist}: deprecated", body)


def standing_reason(harness: Harness, history: SpecialistHistory) -> str | None:
    """The reason of this harness's open pull request that rolls a specialist back; None where none is open."""
    due = (history.cluster, history.specialist, len(history.records) + 1)
    for pull in harness.forge.list("open"):
        if (pull.branch, pull.preparer) == (branch_of(*due, "rolled-back"), harness.actor):
            with suppress(IntegrityFailure, InvalidInput):
                path = f"{folder_of(*due, 'rolled-back')}/{ROLLBACK_FILE}"
                return read_order({ROLLBACK_FILE: harness.workspace.revision(pull.head).read(path)}).reason
    return None


def _standing_words(harness: Harness, history: SpecialistHistory, hold: Hold) -> str:
    """The reason that this harness's open pull request gives for ending a hold; empty where none does."""
    due = (history.cluster, history.specialist, len(history.records) + 1)
    path = f"{folder_of(*due, 'hold-cleared')}/{CLEARANCE_FILE}"
    for pull in harness.forge.list("open"):
        if (pull.branch, pull.preparer) == (branch_of(*due, "hold-cleared"), harness.actor):
            tree = harness.workspace.revision(pull.head)
            with suppress(IntegrityFailure, InvalidInput):
                words = read_clearance({CLEARANCE_FILE: tree.read(path)}, hold) if tree.exists(path) else None
                return words.reason if words else ""
    return ""


def _draft(harness: Harness, cluster: Cluster, history: SpecialistHistory) -> RecordDraft:
    return RecordDraft.of(history.records[-1], cluster, harness.actor, harness.preparer)


def _standing_order(
    harness: Harness, main: GovernedState, draft: RecordDraft, fresh: RollbackOrder
) -> RollbackOrder | None:
    """The order of this harness's open pull request that says the same and is decided by the same as a fresh one."""
    history = main.histories.find(draft.specialist)
    due = (history.cluster, history.specialist, len(history.records) + 1)
    path = f"{folder_of(*due, 'rolled-back')}/{ROLLBACK_FILE}"
    for pull in harness.forge.list("open"):
        if pull.branch != branch_of(*due, "rolled-back") or pull.preparer != harness.actor:
            continue
        tree = harness.workspace.revision(pull.head)
        try:
            order = read_order({ROLLBACK_FILE: tree.read(path)})
        except (IntegrityFailure, InvalidInput):
            continue
        order_now = fresh if fresh.trigger == "metric" or fresh.reason else order
        same = fresh.model_copy(
            update={
                "decided_at": order.decided_at,
                "reason": fresh.reason or order.reason,
                "trigger": order_now.trigger,
                "window": order_now.window,
                "live": order_now.live,
            }
        )
        automatic = _automatic(main, draft, order)
        timely = is_present(order, fresh.decided_at) or not automatic
        if order == same and timely and automatic == _automatic(main, draft, fresh):
            return order
    return None


def _automatic(main: GovernedState, draft: RecordDraft, order: RollbackOrder) -> bool:
    record = next_record(main, "rolled-back", draft, {ROLLBACK_FILE: canonical_json(order)})
    return rollback_decision(main, record, order).automatic


def _require_loss(main: GovernedState, order: RollbackOrder, history: SpecialistHistory) -> None:
    """Refuse early what the gate would refuse."""
    deployment = deployment_of(main, history.specialist)
    refusal = window_refusal(order, deployment.contract, deployment.approved_at)
    if refusal:
        raise InvalidInput(
            "no-loss",
            f"This is no reason by the contract: {refusal}",
            "Correct the file, or leave it out and give a --reason of your own.",
            specialist=history.specialist,
            refusal=refusal,
        )


def require_clean_reason(reason: str, main: GovernedState, cluster: Cluster) -> None:
    """A reason goes into the repository, where no secret, address or path of a machine may stand.

    Raises:
        InvalidInput: ``private-reason``.
    """
    try:
        assert_clean(reason.encode(), machine_names(), lambda: known_ids(main, cluster.cluster))
    except IntegrityFailure as error:
        raise InvalidInput(
            "private-reason", f"The reason: {error.message}", "Say it without that.", reason=error.message
        ) from None
