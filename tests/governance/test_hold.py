"""After a rollback nothing is deployed until a person clears the hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.governance.hold import hold_clearers, hold_refusal
from modelsmith.governance.routing import hold_of, last_routing_record, latest_deployment, render_routing
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

EXPORT = ("candidate", "eval-accepted", "artifact-exported")
DEPLOY = (*EXPORT, "customer-deployed")


def hold_now(cluster):
    return hold_of("rtb", cluster.histories())


def test_a_rollback_begins_the_hold_and_a_clearance_ends_it(cluster):
    assert hold_now(cluster.add(1, *DEPLOY)) is None
    hold = hold_now(cluster.add(1, "rolled-back"))
    assert (hold.specialist, hold.record) == (cluster.name_of(1), digest(cluster.records[1][-1]))
    assert "until a person clears it" in hold.sentence
    assert hold_now(cluster.add(1, "hold-cleared")) is None
    assert hold_now(cluster.add(1, "customer-deployed")) is None


def test_the_hold_is_the_cluster_s_whoever_is_deployed(cluster):
    cluster.add(1, *DEPLOY, "rolled-back").add(2, *DEPLOY)
    with pytest.raises(IntegrityFailure) as refused:
        render_routing("rtb", cluster.histories(), 0.1)
    assert refused.value.code == "moved-on-hold"
    assert refused.value.details["specialist"] == cluster.name_of(2)


def test_clearing_a_hold_changes_no_routing_but_its_place_is_fixed(cluster):
    cluster.add(1, *DEPLOY, "rolled-back")
    before = render_routing("rtb", cluster.histories(), 0.1)
    cluster.add(1, "hold-cleared")
    assert render_routing("rtb", cluster.histories(), 0.1) == before
    assert last_routing_record(cluster.histories()) == digest(cluster.records[1][-1])


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((*EXPORT, "hold-cleared"), "not on hold"),
        ((*DEPLOY, "rolled-back", "hold-cleared", "hold-cleared"), "not on hold"),
    ],
)
def test_there_is_nothing_to_clear_without_a_hold(cluster, events, words):
    with pytest.raises(IntegrityFailure, match=words) as refused:
        hold_now(cluster.add(1, *events))
    assert refused.value.code == "cleared-without-hold"


def test_a_hold_is_cleared_where_it_began(cluster):
    cluster.add(1, *DEPLOY, "rolled-back").add(2, *EXPORT, "hold-cleared")
    with pytest.raises(IntegrityFailure, match="because of iter-001") as refused:
        hold_now(cluster)
    assert refused.value.code == "cleared-without-hold"


def test_two_rollbacks_in_a_row_are_one_hold_of_the_later_one(cluster):
    cluster.add(1, *DEPLOY).add(2, *DEPLOY).add(2, "rolled-back").add(1, "rolled-back")
    assert hold_now(cluster).specialist == cluster.name_of(1)
    assert hold_now(cluster.add(1, "hold-cleared")) is None


def test_who_holds_a_cluster_is_not_retired_before_the_hold_is_cleared(cluster):
    hold = hold_now(cluster.add(1, *DEPLOY, "rolled-back"))
    assert "cleared before" in hold_refusal(hold, "rtb", "deprecated", cluster.name_of(1))
    assert hold_refusal(hold, "rtb", "deprecated", cluster.name_of(2)) is None


def test_the_policy_says_who_clears_a_hold(policy):
    assert hold_clearers(policy) == ("@oncall-sre",)


def test_the_latest_deployment_is_the_last_one_that_still_stands(cluster):
    assert latest_deployment(cluster.add(1, *EXPORT).histories()) is None
    cluster.add(1, "customer-deployed").add(2, *DEPLOY)
    assert latest_deployment(cluster.histories()).specialist == cluster.name_of(2)
    cluster.add(2, "rolled-back")
    assert latest_deployment(cluster.histories()).specialist == cluster.name_of(1)


EVENTS = ("customer-deployed", "production-validated", "rolled-back", "hold-cleared", "deprecated")


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(EVENTS)), max_size=12))
def test_no_deployment_ever_follows_a_rollback_without_a_clearance(cluster_factory, steps):
    cluster = cluster_factory()
    for iteration in (1, 2, 3):
        cluster.add(iteration, *EXPORT)
    order, broken = None, False
    for iteration, event in steps:
        try:
            cluster.add(iteration, event)
        except InvalidInput:
            continue
        broken |= (event == "customer-deployed" and order is not None) or (
            event == "hold-cleared" and order != iteration
        )
        order = {"rolled-back": iteration, "hold-cleared": None}.get(event, order)
    if broken:
        with pytest.raises(IntegrityFailure):
            hold_now(cluster)
    else:
        hold = hold_now(cluster)
        assert (hold.specialist if hold else None) == (cluster.name_of(order) if order else None)
