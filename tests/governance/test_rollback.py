"""A rollback needs no new approval only as the exact inverse of the deployment, within the window approved with it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelsmith.governance.rollback import decide_rollback, rates, readiness, window_refusal
from modelsmith.governance.routing import render_routing, routing_digest, routing_yaml
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counted, LiveWindow
from modelsmith.schema.promotion import RollbackContract, RollbackOrder

DEPLOYED = datetime(2026, 5, 1, 12, tzinfo=UTC)
BEFORE = digest("routing before")
ARTIFACT = digest("artifact")


def contract(window=60, hours=48):
    terms = Rollback(metric="auction_win_rate", max_drop=0.04, window_minutes=window, manual_hours=hours)
    return RollbackContract(
        terms=terms, prior_specialist="iter-001-00000001", prior_artifact=ARTIFACT, prior_routing=BEFORE
    )


def order(after=timedelta(minutes=10), **other):
    facts = {
        "undoes": digest("deployment"), "prior_specialist": "iter-001-00000001", "prior_artifact": ARTIFACT,
        "trigger": "manual", "reason": "win rate fell", "decided_at": DEPLOYED + after,
    }  # fmt: skip
    return RollbackOrder(**(facts | other))


def verdict(rollback_order=None, **other):
    facts = {
        "contract": contract(), "deployed_at": DEPLOYED, "state": "customer-deployed",
        "order": rollback_order or order(), "routing_after": BEFORE,
    }  # fmt: skip
    return decide_rollback(**(facts | other))


def test_the_exact_inverse_in_the_window_was_approved_with_the_deployment():
    decision = verdict()
    assert decision.automatic
    assert "minute 10 of the 60" in decision.sentence


@pytest.mark.parametrize("after", [timedelta(0), timedelta(minutes=60)])
def test_the_window_includes_both_its_ends(after):
    assert verdict(order(after)).automatic


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"order": order(timedelta(minutes=60, seconds=1))}, "its window of 60 minutes ended 1 minute ago"),
        ({"order": order(timedelta(hours=5))}, "ended 4 hours ago"),
        ({"contract": contract(window=1)}, "its window of 1 minute ended 9 minutes ago"),
        ({"order": order(timedelta(days=9))}, "ended 8 days ago"),
        ({"order": order(-timedelta(seconds=1))}, "dated before the deployment was approved"),
        ({"deployed_at": None}, "no person's approval"),
        ({"state": "production-validated"}, "is production-validated since"),
        ({"routing_after": digest("other")}, "routing changed since the deployment"),
        ({"order": order(prior_specialist="base", prior_artifact=None)}, "would return to base"),
        ({"order": order(prior_artifact=digest("other"))}, "not to iter-001-00000001"),
    ],
)
def test_anything_else_is_for_a_person_and_says_why(changed, words):
    decision = verdict(**changed)
    assert not decision.automatic
    assert decision.sentence.startswith("outside the contract: ")
    assert words in decision.sentence


def test_the_same_moment_in_another_time_zone_is_the_same_moment():
    local = (DEPLOYED + timedelta(minutes=59)).astimezone(timezone(timedelta(hours=-11)))
    assert verdict(order(decided_at=local)).automatic


@pytest.mark.parametrize(("hours", "ready"), [(0, True), (48, True), (49, False)])
def test_who_served_before_is_kept_ready_for_the_hours_of_the_contract(hours, ready):
    is_ready, sentence = readiness(contract(), DEPLOYED, DEPLOYED + timedelta(hours=hours))
    assert is_ready is ready
    assert ("is kept ready for 48 hours" in sentence) is ready
    assert ("make sure that it can serve" in sentence) is not ready


def test_a_deployment_that_nobody_approved_keeps_nobody_ready():
    assert readiness(contract(), None, DEPLOYED)[0] is False


MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))


@given(
    st.one_of(st.none(), MOMENTS),
    MOMENTS,
    st.integers(1, 10**12),
    st.sampled_from(["customer-deployed", "production-validated", "artifact-exported", None]),
    st.sampled_from([BEFORE, digest("other")]),
    st.sampled_from(["iter-001-00000001", "base"]),
    st.sampled_from([ARTIFACT, None, digest("other")]),
)
def test_nothing_makes_a_rollback_outside_the_window_automatic(
    deployed, decided, window, state, after, prior, artifact
):
    requested = order(decided_at=decided, prior_specialist=prior, prior_artifact=artifact)
    decision = decide_rollback(
        contract=contract(window), deployed_at=deployed, state=state, order=requested, routing_after=after
    )
    inside = deployed is not None and 0 <= (decided - deployed).total_seconds() / 60 <= window
    exact = (state, after, prior, artifact) == ("customer-deployed", BEFORE, "iter-001-00000001", ARTIFACT)
    assert decision.automatic is (inside and exact)


STEPS = ("customer-deployed", "production-validated", "rolled-back", "deprecated")


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(STEPS)), max_size=12),
    st.integers(1, 3),
    st.floats(0.001, 1.0),
)
def test_an_automatic_rollback_returns_routing_to_the_very_bytes_before(cluster_factory, steps, iteration, share):
    """Whatever happened before: deploy and roll back gives the same file, so that the digest in the contract holds."""
    from modelsmith.schema.errors import InvalidInput

    cluster = cluster_factory()
    for number in (1, 2, 3):
        cluster.add(number, "candidate", "eval-accepted", "artifact-exported")
    for number, event in steps:
        try:
            cluster.add(number, event)
        except InvalidInput:
            continue
        if event == "rolled-back":
            cluster.add(number, "hold-cleared")
    assume(cluster.records[iteration][-1].to_state == "artifact-exported")
    before = render_routing("rtb", cluster.histories(), share)
    cluster.add(iteration, "customer-deployed", "rolled-back")
    after = render_routing("rtb", cluster.histories(), share)
    assert routing_yaml(after) == routing_yaml(before)
    assert verdict(contract=contract().model_copy(update={"prior_routing": routing_digest(before)}),
                   routing_after=routing_digest(after)).automatic  # fmt: skip


def live(ours=(4200, 882), theirs=(37800, 9450), **other):
    counted = {"specialist": Counted(decisions=ours[0], good=ours[1])}
    counted |= {"incumbent": Counted(decisions=theirs[0], good=theirs[1])}
    times = {"began": DEPLOYED, "ended": DEPLOYED + timedelta(minutes=5)}
    return LiveWindow(**({"metric": "auction_win_rate"} | times | counted | other))


def refusal(window):
    requested = order(timedelta(minutes=5), trigger="metric", window=window)
    return window_refusal(requested, contract(), DEPLOYED)


def test_a_window_that_shows_the_loss_is_a_reason_and_says_both_rates():
    assert refusal(live()) is None
    assert rates(live()) == "auction_win_rate 0.2100 (882 of 4200) against 0.2500 (9450 of 37800), 16.0% lower"


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (live(metric="margin"), "counts margin"),
        (live(ended=DEPLOYED), "ends before it begins"),
        (live(ended=DEPLOYED + timedelta(minutes=16)), "ends after the rollback"),
        (live(began=DEPLOYED - timedelta(minutes=11)), "begins before the deployment"),
        (live(ours=(100, 24), theirs=(100, 25)), "no drop beyond the 4.0%"),
        (live(ours=(100, 30)), "higher"),
        (live(ours=(100, 0), theirs=(100, 0)), "no drop"),
    ],
)
def test_a_window_that_shows_no_such_loss_is_none_and_says_why(window, words):
    assert words in refusal(window)


def test_a_drop_of_exactly_the_limit_is_still_within_it():
    assert refusal(live(ours=(2500, 600), theirs=(100, 25)))
    assert refusal(live(ours=(2500, 599), theirs=(100, 25))) is None


@pytest.mark.parametrize("other", [{"trigger": "metric"}, {"window": live()}])
def test_a_window_goes_with_its_trigger_and_no_other(other):
    with pytest.raises(ValidationError, match="a window goes with the trigger metric"):
        order(**other)


@given(ours=st.integers(1, 10**6), share=st.floats(0, 1), theirs=st.integers(1, 10**6), good=st.integers(0, 10**6))
def test_a_window_where_the_specialist_is_not_behind_is_never_a_reason(ours, share, theirs, good):
    good = min(good, theirs)
    least = -(-good * ours // theirs)
    window = live((ours, least + int(share * (ours - least))), (theirs, good))
    assert refusal(window)
