import pytest
from hypothesis import given
from hypothesis import strategies as st
from transitions import SHIPPED

from modelsmith.governance.states import fold, parse_folder, record_folder, transition_for
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

LIFE = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed", "production-validated")
EVENTS = sorted({transition.event for transition in SHIPPED})


def test_a_full_history_ends_in_production(cluster, policy):
    records = cluster.add(1, *LIFE).records[1]
    history = fold(records, policy)
    assert (history.state, history.routed, history.specialist) == ("production-validated", True, "iter-001-00000001")
    assert history.last == digest(records[-1])
    assert history.records == tuple(records)


def test_after_a_rollback_a_specialist_can_be_deployed_again(cluster, policy):
    records = cluster.add(1, *LIFE[:4], "rolled-back", "customer-deployed", "production-validated").records[1]
    assert fold(records[:5], policy).state == "artifact-exported"
    assert not fold(records[:5], policy).routed
    assert fold(records, policy).state == "production-validated"


def test_records_stand_in_folders_that_say_who_and_what(cluster):
    records = cluster.add(1, *LIFE).records[1]
    folder = record_folder(records[3])
    assert folder == "promotions/rtb/iter-001-00000001/04-customer-deployed"
    assert parse_folder(folder) == ("rtb", "iter-001-00000001", 4, "customer-deployed")


@pytest.mark.parametrize(
    "path",
    [
        "promotions/rtb/iter-001-00000001/4-customer-deployed",
        "promotions/rtb/iter-001-00000001/004-customer-deployed",
        "promotions/rtb/iter-001-00000001/00-candidate",
        "promotions/rtb/iter-001-00000001/04-liked",
        "promotions/rtb/iter-1-00000001/01-candidate",
        "promotions/rtb/iter-001-0000000G/01-candidate",
        "promotions/../iter-001-00000001/01-candidate",
        "promotions/rtb/iter-001-00000001/01-candidate/",
        "promotions/rtb/iter-001-00000001/01-candidate\n",
        "promotions/rtb/iter-00\u0661-00000001/01-candidate",
    ],
)
def test_any_other_spelling_of_a_folder_is_refused(path):
    with pytest.raises(InvalidInput, match="not the folder"):
        parse_folder(path)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sequence": 4}, "skipped-sequence"),
        ({"previous_record": digest("other")}, "broken-chain"),
        ({"previous_record": None}, "broken-chain"),
        ({"artifact": "sha256:00000001" + "f" * 56}, "changed-artifact"),
        ({"artifact": digest("x")}, "misnamed-specialist"),
        ({"iteration": 2}, "misnamed-specialist"),
        ({"cluster": "other"}, "mixed-specialists"),
        ({"event": "customer-deployed", "to_state": "customer-deployed"}, "forbidden-transition"),
        ({"to_state": "production-validated"}, "forbidden-transition"),
        ({"from_state": "candidate"}, "forbidden-transition"),
    ],
)
def test_a_tampered_record_is_named_with_specialist_and_sequence(cluster, policy, change, code):
    records = cluster.add(1, "candidate", "eval-accepted", "artifact-exported").records[1]
    records[2] = records[2].model_copy(update=change)
    with pytest.raises(IntegrityFailure) as caught:
        fold(records, policy)
    assert caught.value.code == code
    assert caught.value.details["specialist"] == "iter-001-00000001"
    assert caught.value.details["sequence"] == records[2].sequence


def test_no_records_make_no_history(policy):
    with pytest.raises(IntegrityFailure) as caught:
        fold([], policy)
    assert caught.value.code == "no-records"


def test_an_event_that_is_not_due_names_those_that_are(policy):
    with pytest.raises(InvalidInput) as caught:
        transition_for(policy, "production-validated", "artifact-exported")
    assert caught.value.code == "bad-transition"
    assert "customer-deployed" in caught.value.mend


@given(data=st.data())
def test_no_sequence_of_events_reaches_a_state_that_the_policy_forbids(cluster_factory, policy, data):
    events = data.draw(st.lists(st.sampled_from(EVENTS), max_size=8))
    state, expected = None, []
    for event in events:
        allowed = [
            t for t in policy.transitions if t.event == event and (state in t.sources if state else not t.sources)
        ]
        if allowed:
            expected.append(event)
            state = allowed[0].target
    cluster = cluster_factory()
    for event in events:
        try:
            cluster.add(1, event)
        except InvalidInput:
            continue
    records = cluster.records.get(1, [])
    assert [record.event for record in records] == expected
    if records:
        assert fold(records, policy).state == state


@given(data=st.data())
def test_leaving_out_or_reordering_records_never_folds(cluster_factory, policy, data):
    records = cluster_factory().add(1, *LIFE[:4], "rolled-back", "customer-deployed").records[1]
    some = data.draw(st.lists(st.sampled_from(records), min_size=1, max_size=6))
    if some == records[: len(some)]:
        fold(some, policy)
    else:
        with pytest.raises(IntegrityFailure):
            fold(some, policy)
