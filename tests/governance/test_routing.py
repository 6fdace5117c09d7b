import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.governance import routing_chain as chains
from modelsmith.governance.routing import hold_of, incumbent, last_routing_record, render_routing, routing_yaml
from modelsmith.governance.routing_chain import routing_chain
from modelsmith.governance.states import fold
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Routing, Serving
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

EXPORT = ("candidate", "eval-accepted", "artifact-exported")
DEPLOY = (*EXPORT, "customer-deployed")
VALIDATE = (*DEPLOY, "production-validated")


def shares(cluster, share=0.1):
    return {entry.specialist: entry.share for entry in render_routing("rtb", cluster.histories(), share).serving}


def test_the_base_model_serves_until_something_is_deployed(cluster):
    assert shares(cluster) == {"base": 1.0}
    assert shares(cluster.add(1, *EXPORT)) == {"base": 1.0}
    assert incumbent("rtb", cluster.histories()) == ("base", None, None)
    assert last_routing_record(cluster.histories()) is None


def test_a_deployed_specialist_gets_its_share_and_base_the_rest(cluster):
    cluster.add(1, *DEPLOY)
    assert shares(cluster) == {"base": 0.9, cluster.name_of(1): 0.1}
    assert shares(cluster, 0.3) == {"base": 0.7, cluster.name_of(1): 0.3}
    assert shares(cluster, 1.0) == {cluster.name_of(1): 1.0}


def test_a_specialist_under_watch_is_not_yet_the_incumbent(cluster):
    cluster.add(1, *DEPLOY)
    assert incumbent("rtb", cluster.histories()).specialist == "base"
    cluster.add(1, "production-validated")
    specialist, artifact, record = incumbent("rtb", cluster.histories())
    assert specialist == cluster.name_of(1)
    assert artifact == cluster.records[1][-1].artifact
    assert record == digest(cluster.records[1][-1]) == last_routing_record(cluster.histories())


def test_a_validated_specialist_serves_all_and_supersedes_older_ones(cluster):
    cluster.add(1, *VALIDATE)
    assert shares(cluster) == {cluster.name_of(1): 1.0}
    cluster.add(2, *DEPLOY)
    assert shares(cluster) == {cluster.name_of(1): 0.9, cluster.name_of(2): 0.1}
    cluster.add(2, "production-validated")
    assert shares(cluster) == {cluster.name_of(2): 1.0}


def test_a_rollback_returns_exactly_to_what_served_before(cluster):
    cluster.add(1, *VALIDATE)
    before = shares(cluster)
    cluster.add(2, *DEPLOY, "rolled-back")
    assert shares(cluster) == before
    cluster.add(2, "hold-cleared", "customer-deployed", "production-validated", "rolled-back")
    assert shares(cluster) == before


def test_deprecating_the_incumbent_returns_to_the_one_before_it(cluster):
    cluster.add(1, *VALIDATE).add(2, *VALIDATE).add(2, "deprecated")
    assert incumbent("rtb", cluster.histories()).specialist == cluster.name_of(1)
    cluster.add(1, "deprecated")
    assert shares(cluster) == {"base": 1.0}


def test_only_the_latest_specialist_under_watch_gets_traffic(cluster):
    cluster.add(1, *DEPLOY).add(2, *DEPLOY)
    assert shares(cluster) == {"base": 0.9, cluster.name_of(2): 0.1}
    cluster.add(2, "rolled-back")
    assert shares(cluster) == {"base": 0.9, cluster.name_of(1): 0.1}


def test_validating_a_newer_specialist_supersedes_one_under_watch(cluster):
    cluster.add(1, *DEPLOY).add(2, *VALIDATE)
    assert shares(cluster) == {cluster.name_of(2): 1.0}


def test_two_deployments_prepared_against_the_same_past_collide(cluster):
    cluster.add(1, *DEPLOY).add(2, *EXPORT)
    cluster.add(2, "customer-deployed", expected_previous=None)
    with pytest.raises(IntegrityFailure) as caught:
        render_routing("rtb", cluster.histories(), 0.1)
    assert caught.value.code == "forked-routing"


def test_a_record_that_follows_nothing_known_is_refused(cluster):
    cluster.add(1, *DEPLOY).add(2, *EXPORT)
    cluster.add(2, "customer-deployed", expected_previous=digest("lost"))
    with pytest.raises(IntegrityFailure) as caught:
        routing_chain(cluster.histories())
    assert caught.value.code == "broken-routing-chain"


def test_histories_of_another_cluster_are_refused(cluster, cluster_factory):
    cluster.add(1, *DEPLOY)
    other = cluster_factory("other").add(2, *DEPLOY)
    with pytest.raises(IntegrityFailure) as caught:
        render_routing("rtb", cluster.histories() + other.histories(), 0.1)
    assert caught.value.code == "mixed-clusters"


def test_the_order_of_histories_does_not_matter(cluster):
    cluster.add(1, *VALIDATE).add(2, *VALIDATE).add(3, *DEPLOY)
    histories = cluster.histories()
    rendered = {routing_yaml(render_routing("rtb", order, 0.1)) for order in (histories, histories[::-1])}
    assert len(rendered) == 1


def parse(data):
    return Routing.model_validate_json(json.dumps(yaml.safe_load(data)))


def test_the_file_says_that_it_is_rendered(cluster):
    cluster.add(1, *DEPLOY)
    text = routing_yaml(render_routing("rtb", cluster.histories(), 0.1)).decode()
    deployed = cluster.records[1][-1]
    assert text == (
        "# rendered from promotion records; do not edit\n"
        'cluster: "rtb"\n'
        "serving:\n"
        '- specialist: "base"\n'
        "  artifact: null\n"
        "  share: 0.9\n"
        "  record: null\n"
        '- specialist: "iter-001-00000001"\n'
        f'  artifact: "{deployed.artifact}"\n'
        "  share: 0.1\n"
        f'  record: "{digest(deployed)}"\n'
    )


@pytest.mark.parametrize("name", ["null", "on", "123", "1.0", "0x1f", "2024-01-01", "yes", "1e5", "0o7", "rtb-pricing"])
@pytest.mark.parametrize("share", [1.0, 0.1, 1e-05, 1e-17, 0.30000000000000004])
def test_whatever_the_names_and_shares_the_file_reads_back(name, share):
    due = Routing(cluster=name, serving=(Serving(specialist=name, artifact=None, share=share, record=None),))
    assert parse(routing_yaml(due)) == due


EVENTS = (*VALIDATE, "rolled-back", "deprecated", "hold-cleared")


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(EVENTS)), max_size=30),
    st.floats(0.001, 1.0, allow_nan=False),
)
def test_after_any_history_shares_sum_to_one_and_serving_states_serve(cluster_factory, steps, share):
    cluster = cluster_factory()
    for iteration in (1, 2, 3):
        cluster.add(iteration, *EXPORT)
    on_hold = None
    for iteration, event in steps:
        if (event == "customer-deployed" and on_hold) or (event == "hold-cleared" and on_hold != iteration):
            continue
        try:
            cluster.add(iteration, event)
        except InvalidInput:
            continue
        on_hold = {"rolled-back": iteration, "hold-cleared": None}.get(event, on_hold)
    histories = cluster.histories()
    hold = hold_of("rtb", histories)
    assert (hold.specialist if hold else None) == (cluster.name_of(on_hold) if on_hold else None)
    rendered = render_routing("rtb", histories, share)
    assert sum(entry.share for entry in rendered.serving) == pytest.approx(1)
    states = {history.specialist: history for history in histories}
    for entry in rendered.serving:
        if entry.specialist != "base":
            assert states[entry.specialist].routed
            assert entry.artifact == states[entry.specialist].artifact
    assert parse(routing_yaml(rendered)) == rendered
    assert last_routing_record(histories) == cluster.last_routing
    validated, watched = who_serves(histories)
    assert incumbent("rtb", histories).specialist == validated
    names = {entry.specialist for entry in rendered.serving}
    assert names | {validated} == {validated} | ({watched} if watched else set())


def who_serves(histories):
    """Who was validated last, and who was deployed last since that one was, by walking through the whole chain."""
    states = {history.specialist: history.state for history in histories}
    starts, validations = {}, []
    for at, (record, _) in enumerate(routing_chain(histories)):
        if record.to_state in ("customer-deployed", "production-validated"):
            starts.setdefault(record.specialist, at)
        else:
            starts.pop(record.specialist, None)
        if record.to_state == "production-validated":
            validations.append(record.specialist)
    validated = next((name for name in reversed(validations) if states[name] == "production-validated"), "base")
    deployed = {at: name for name, at in starts.items() if states[name] == "customer-deployed"}
    later = [at for at in deployed if at > starts.get(validated, -1)]
    return validated, deployed[max(later)] if later else None


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(EVENTS), st.booleans()), max_size=20),
    st.lists(st.integers(0, 20), max_size=4),
)
def test_a_chain_that_grew_is_the_chain_folded_anew(cluster_factory, policy, steps, again):
    """Whatever was folded before, also where the next records contradict the ones before them."""
    cluster = cluster_factory()
    by_iteration, histories = {}, []
    for iteration, event, astray in [(1, "candidate", False), *steps]:
        try:
            cluster.add(iteration, *([] if iteration in cluster.records else EXPORT), event)
        except InvalidInput:
            continue
        changes = {"expected_previous": None} if astray else {}
        cluster.records[iteration][-1] = cluster.records[iteration][-1].model_copy(update=changes)
        by_iteration = by_iteration | {iteration: fold(cluster.records[iteration], policy)}
        others = [entry for key, entry in by_iteration.items() if key != iteration]
        histories += [(*others, by_iteration[iteration]), tuple(by_iteration.values())]
    for history in (*histories, *(histories[at % len(histories)] for at in again if histories)):
        grown = outcome(history)
        chains._folded.clear()
        anew = outcome(history)
        assert grown == anew


def outcome(histories):
    try:
        return routing_chain(histories), hold_of("rtb", histories), render_routing("rtb", histories, 0.1)
    except IntegrityFailure as error:
        return error.code, error.message
