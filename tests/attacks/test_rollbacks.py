"""Attacks on the one approval that is given in advance: a rollback dated back into the window of its contract."""

from __future__ import annotations

from datetime import datetime, timedelta

import attacker
import pytest
from attacker import HARNESS, POLICY, ROUTING
from worlds import CLUSTER

from modelsmith.operations import promote, rollback, status
from modelsmith.operations.promote import PromoteRequest
from modelsmith.operations.rollback import RollbackRequest
from modelsmith.operations.status import StatusRequest
from modelsmith.promotion import judging
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.records import next_record, routing_after
from modelsmith.promotion.rollbacks import deployment_of, order_for
from modelsmith.schema.canonical import canonical_json

LATER = timedelta(hours=5)
"""After the approval; the window of an hour is over then."""


class Tomorrow(datetime):
    """The verifier looks a day later, so that a test need not wait."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(days=1)


@pytest.fixture(autouse=True)
def _tomorrow(monkeypatch):
    monkeypatch.setattr(judging, "datetime", Tomorrow)


def approved_at(world):
    at = deployment_of(world.governed(), world.draft().specialist).approved_at
    assert at
    return at


def roll_back(world, monkeypatch, after, opened_after=None, merged_after=None, **more):
    """A rollback on main past the hook, dated so long after the approval, by whoever holds the harness's keys."""
    main = world.governed()
    approved = approved_at(world)
    monkeypatch.setattr(attacker, "AT", approved + (after if opened_after is None else opened_after))
    facts = world.draft_for("customer-deployed")
    data = canonical_json(order_for(main, facts, "", approved + after))
    fields = {"rollback.json": data}
    fields |= packet_files(main, next_record(main, "rolled-back", facts, fields), fields)
    record = next_record(main, "rolled-back", facts, fields)
    files = world.record_files(record, fields)
    files[ROUTING] = routing_after(main, record)
    head = world.commit(files)
    merged = approved + (after if merged_after is None else merged_after)
    return world.force(head, pull=8, gate="contract", at=merged, **more)


def something_else(world, monkeypatch):
    """The platform changes a limit, five hours after the approval."""
    text = world.governed().tree.read(POLICY)
    changed = text.replace(b"changed_paths: 3000", b"changed_paths: 2999")
    assert changed != text
    at = approved_at(world) + LATER
    monkeypatch.setattr(attacker, "AT", at)
    head = world.commit({POLICY: changed})
    world.force(
        head, [world.review("paul", world.sign_with("paul", world.statement("paul", 7, head, at=at)))], pull=7, at=at
    )


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
    merge = roll_back(deployed, monkeypatch, timedelta(minutes=30), merged_after=LATER)
    deployed.detected(merge, "approval of @oncall-sre is missing")


def test_a_rollback_that_no_person_approves_is_opened_by_who_prepared_it(deployed, monkeypatch):
    """Dana owns nothing of it, and opens again what the harness had prepared and somebody had closed."""
    merge = roll_back(deployed, monkeypatch, timedelta(minutes=30), preparer="dana")
    deployed.detected(merge, "approval of @oncall-sre is missing")


@pytest.mark.parametrize("more", [{"opened_after": LATER, "merged_after": LATER}, {"merged_after": LATER}])
def test_a_rollback_whose_opening_or_merge_is_dated_later_is_found(deployed, monkeypatch, more):
    """Whoever dates the order back must date opening and merge back, too; the forge's hook compares them all."""
    merge = roll_back(deployed, monkeypatch, timedelta(minutes=30), **more)
    deployed.detected(merge, "approval of @oncall-sre is missing")


@pytest.mark.xfail(strict=True, reason="neither: on a main where nobody signed anything since, nothing tells the time")
def test_a_rollback_dated_back_on_a_quiet_main_is_detected(deployed, monkeypatch):
    """Order, opening and merge dated back into the window, past the hook, hours later; nothing was signed since."""
    merge = roll_back(deployed, monkeypatch, timedelta(minutes=30))
    something_else(deployed, monkeypatch)
    deployed.detected(merge)


def test_what_a_rollback_makes_pointless_is_closed_with_the_reason(deployed):
    """Nobody could approve what was to follow the deployment, so nothing is left that waits for nobody."""
    workspace, specialist = deployed.workspace, deployed.draft().specialist
    validated = PromoteRequest(cluster=CLUSTER, specialist=specialist, to="production-validated")
    result = promote.run(workspace, validated)
    assert result.status == "open"
    undone = rollback.run(workspace, RollbackRequest(cluster=CLUSTER, reason="win rate fell"))
    assert undone.status == "merged"
    pull = deployed.as_(HARNESS).get(result.pull)
    assert pull.status == "closed"
    waiting = status.run(workspace, StatusRequest()).clusters[0].waiting
    assert waiting == ()
    rerun = rollback.run(workspace, RollbackRequest(cluster=CLUSTER))
    assert rerun.status == "merged"
