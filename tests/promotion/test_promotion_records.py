"""Records follow from main: chain, gate, routing, collision and rollback contract."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.governance.states import fold, record_folder
from modelsmith.promotion.checks import promotion_checks
from modelsmith.promotion.histories import parse_record, receipts_of
from modelsmith.promotion.records import next_record, routing_after
from modelsmith.schema.canonical import canonical_json, digest, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput, WaitingForPerson

TO_DEPLOYED = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed")


def test_a_history_begins_with_candidate(repository):
    record = next_record(repository.main, "candidate", repository.draft(), {"training.json": b"{}"})
    assert (record.sequence, record.from_state, record.to_state) == (1, None, "candidate")
    assert (record.previous_record, record.previous_receipts, record.expected_previous) == (None, {}, None)
    assert record.evidence == {"training.json": sha256(b"{}")}
    assert record.required_approvers == ()
    assert record.policy == repository.main.policy_digest


def test_each_record_names_the_one_before_it_and_its_receipts(repository):
    with_candidate = repository.after("candidate")
    first = with_candidate.main.histories.find(with_candidate.draft().specialist).records[0]
    record = next_record(with_candidate.main, "eval-accepted", with_candidate.draft(), {})
    assert record.previous_record == digest(first)
    assert record.previous_receipts == receipts_of(with_candidate.main.tree, record_folder(first))
    assert list(record.previous_receipts) == ["merge.json"]


@pytest.mark.parametrize(
    "event", ["eval-accepted", "artifact-exported", "customer-deployed", "deprecated", "rolled-back"]
)
def test_no_event_comes_before_candidate(repository, event):
    with pytest.raises(InvalidInput) as refused:
        next_record(repository.main, event, repository.draft(), {})
    assert refused.value.code == "bad-transition"
    assert "candidate" in refused.value.mend


def test_a_deployment_asks_the_head_of_trading_and_carries_its_inverse(repository):
    exported = repository.after(*TO_DEPLOYED[:3])
    record = next_record(exported.main, "customer-deployed", exported.draft(), {})
    assert record.required_approvers == ("head-of-trading",)
    assert (record.rollback.prior_specialist, record.rollback.prior_artifact) == ("base", None)
    assert record.rollback.terms == exported.draft().cluster.rollback
    assert record.expected_previous is None


def test_the_next_deployment_rolls_back_to_the_validated_one(repository):
    validated = repository.after(*TO_DEPLOYED, "production-validated").after(*TO_DEPLOYED[:3], number=2)
    first = validated.main.histories.find(validated.draft(1).specialist)
    record = next_record(validated.main, "customer-deployed", validated.draft(2), {})
    assert (record.rollback.prior_specialist, record.rollback.prior_artifact) == (first.specialist, first.artifact)
    assert record.expected_previous == digest(first.records[-1])


def test_two_deployments_prepared_at_once_collide(repository):
    both = repository.after(*TO_DEPLOYED[:3]).after(*TO_DEPLOYED[:3], number=2)
    late = both.files_of(next_record(both.main, "customer-deployed", both.draft(2), {}))
    now = both.after("customer-deployed")
    proposed, change = now.proposed(late)
    failed = {check.name: check.sentence for check in promotion_checks(now.main, proposed, change) if not check.passed}
    assert "expected_previous" in failed["life"]


def test_routing_is_rendered_from_the_records_with_the_cluster_s_share(repository):
    exported = repository.after(*TO_DEPLOYED[:3])
    record = next_record(exported.main, "customer-deployed", exported.draft(), {})
    routing = yaml.safe_load(routing_after(exported.main, record))
    assert [(serving["specialist"], serving["share"]) for serving in routing["serving"]] == [
        ("base", 0.9), (exported.draft().specialist, 0.1),
    ]  # fmt: skip
    validated = exported.after("customer-deployed")
    record = next_record(validated.main, "production-validated", validated.draft(), {})
    assert routing_after(validated.main, record) == routing_after(validated.main, record)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=9))
def test_whatever_the_policy_allows_can_be_recorded_and_folds(repository, choices):
    world, records, on_hold = repository.after("candidate"), [], False
    for choice in choices:
        history = world.main.histories.find(world.draft().specialist)
        able = [t.event for t in world.main.policy.transitions if history.state in t.sources]
        if not able:
            break
        event = able[choice % len(able)]
        if (event in ("customer-deployed", "deprecated") and on_hold) or (event == "hold-cleared" and not on_hold):
            with pytest.raises((InvalidInput, WaitingForPerson), match="hold"):
                next_record(world.main, event, world.draft(), {})
            continue
        on_hold = {"rolled-back": True, "hold-cleared": False}.get(event, on_hold)
        target = next(t.target for t in world.main.policy.transitions if t.event == event)
        world = world.after(event)
        records = world.main.histories.find(world.draft().specialist).records
        assert (records[-1].sequence, records[-1].to_state) == (len(records), target)
    if records:
        assert fold(records, world.main.policy).state == records[-1].to_state


def test_a_record_with_a_number_that_json_readers_disagree_on_is_refused(repository):
    record = next_record(repository.main, "candidate", repository.draft(), {})
    data = canonical_json(record).replace(b'"iteration":1', b'"iteration":' + b"1" * 30)
    with pytest.raises(IntegrityFailure) as caught:
        parse_record(f"{record_folder(record)}/record.json", data)
    assert caught.value.code == "bad-record"
