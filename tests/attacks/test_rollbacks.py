"""Attacks on the one approval that is given in advance: a rollback dated back into the window of its contract."""

from __future__ import annotations

from datetime import timedelta

import attacker
import pytest
from attacker import HARNESS, POLICY, ROUTING
from worlds import CLUSTER

from modelsmith.governance.states import record_folder
from modelsmith.operations import promote, rollback, status
from modelsmith.operations.promote import PromoteRequest
from modelsmith.operations.rollback import RollbackRequest
from modelsmith.operations.status import StatusRequest
from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.promotion.records import next_record, routing_after
from modelsmith.promotion.rollbacks import deployment_of, order_for
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import Receipt

LATER = timedelta(hours=5)
"""After the approval; the window of an hour is over then. Replay has no clock, so a test need not wait."""


def approved_at(world):
    at = deployment_of(world.governed(), world.facts().specialist).approved_at
    assert at
    return at


def roll_back(world, monkeypatch, after, opened_after=None):
    """A rollback on main past the hook, dated so long after the approval, by whoever holds the harness's keys."""
    main = world.governed()
    approved = approved_at(world)
    monkeypatch.setattr(attacker, "AT", approved + (after if opened_after is None else opened_after))
    facts = world.facts_for("customer-deployed")
    data = canonical_json(order_for(main, facts, "", approved + after))
    record = next_record(main, "rolled-back", facts, {"rollback.json": data})
    files = world.record_files(record, {"rollback.json": data})
    files[ROUTING] = routing_after(main, record)
    head = world.commit(files)
    change = world.git.change(world.main(), world.git.merge_tree(world.main(), head))
    receipt = Receipt(
        pull=8, change=change.digest(), gate="contract", requested_by=HARNESS, prepared_by=HARNESS, checks=(),
        approvals={},
    )  # fmt: skip
    path = f"{record_folder(record)}/receipts/{MERGE_RECEIPT}"
    return world.force(head, pull=8, more={path: canonical_json(receipt)})


def something_else(world, monkeypatch):
    """The platform changes a limit, five hours after the approval."""
    text = world.governed().tree.read(POLICY)
    changed = text.replace(b"changed_paths: 3000", b"changed_paths: 2999")
    assert changed != text
    at = approved_at(world) + LATER
    monkeypatch.setattr(attacker, "AT", at)
    head = world.commit({POLICY: changed})
    world.force(head, [world.review("paul", world.sign_with("paul", world.statement("paul", 7, head, at=at)))], pull=7)


def test_a_rollback_within_its_window_is_what_people_approved(deployed, monkeypatch):
    """Control: dated and opened within the hour, it holds without anybody's approval."""
    roll_back(deployed, monkeypatch, timedelta(minutes=30))
    assert deployed.holds().approvals == 1


def test_a_rollback_after_its_window_needs_oncall(deployed, monkeypatch):
    """Control: dated as it was, it does not hold without oncall."""
    merge = roll_back(deployed, monkeypatch, LATER)
    deployed.detected(merge, "approval of @oncall-sre is missing")


def test_a_rollback_dated_back_before_what_main_holds_is_found(deployed, monkeypatch):
    """Somebody signed something after the window: a rollback on top of that was not asked for within it."""
    something_else(deployed, monkeypatch)
    deployed.holds()
    merge = roll_back(deployed, monkeypatch, timedelta(minutes=30))
    deployed.detected(merge, "approval of @oncall-sre is missing")


def test_a_rollback_whose_opening_is_dated_later_is_found(deployed, monkeypatch):
    """Whoever dates the order back must date its opening back, too, which the forge's hook compares with its clock."""
    merge = roll_back(deployed, monkeypatch, timedelta(minutes=30), opened_after=LATER)
    deployed.detected(merge, "approval of @oncall-sre is missing")


@pytest.mark.xfail(strict=True, reason="neither: on a main where nobody signed anything since, nothing tells the time")
def test_a_rollback_dated_back_on_a_quiet_main_is_detected(deployed, monkeypatch):
    """Order and opening dated back into the window, past the hook, hours later; nothing was signed in between."""
    merge = roll_back(deployed, monkeypatch, timedelta(minutes=30))
    something_else(deployed, monkeypatch)
    deployed.detected(merge)


def test_what_a_rollback_makes_pointless_is_closed_with_the_reason(deployed):
    """Nobody could approve what was to follow the deployment, so nothing is left that waits for nobody."""
    workspace, specialist = deployed.workspace, deployed.facts().specialist
    validated = PromoteRequest(cluster=CLUSTER, specialist=specialist, to="production-validated")
    asked = promote.run(workspace, validated)
    assert asked.status == "open"
    undone = rollback.run(workspace, RollbackRequest(cluster=CLUSTER, reason="win rate fell"))
    assert undone.status == "merged"
    pull = deployed.as_(HARNESS).get(asked.pull)
    assert pull.status == "closed"
    waiting = status.run(workspace, StatusRequest()).clusters[0].waiting
    assert waiting == ()
    rerun = rollback.run(workspace, RollbackRequest(cluster=CLUSTER))
    assert rerun.status == "merged"
