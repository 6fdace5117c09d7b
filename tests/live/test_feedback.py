"""What an application reports: taken once, by this door's own ids, in time, and as a yes or a no."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.live.ids import Ids
from modelsmith.live.reports import MOST, read_body
from tests.live.conftest import KEY, RECORD, report, watching


def send(desk, *reports):
    body = reports[0] if len(reports) == 1 else {"reports": list(reports)}
    return desk.recorder.feedback(json.dumps(body).encode())


def wins_of(desk):
    stages = desk.recorder.counts(desk.recorder._watching["rtb-pricing"]).stages
    wins = stages[0].metrics[0]
    return (wins.specialist, wins.specialist_known, wins.incumbent, wins.incumbent_known)


def test_a_report_counts_for_the_arm_that_its_id_names(desk):
    assert send(desk, report(desk.decided("specialist"))) == (200, {"result": "taken"})
    assert send(desk, report(desk.decided("incumbent"), 0)) == (200, {"result": "taken"})
    assert wins_of(desk) == (1, 1, 0, 1)


def test_a_report_that_comes_twice_counts_once(desk):
    report_sent = report(desk.decided("specialist"))
    assert [send(desk, report_sent)[1]["result"] for _ in range(3)] == ["taken", "repeated", "repeated"]
    assert send(desk, report_sent | {"idempotency_key": "another"})[1]["result"] == "repeated"
    assert wins_of(desk) == (1, 1, 0, 0)


def test_the_first_report_stands_against_a_later_one(desk):
    decision = desk.decided("specialist")
    send(desk, report(decision, 0))
    status, answer = send(desk, report(decision, 1, "second thoughts"))
    assert (status, answer["result"]) == (409, "contradicted")
    assert wins_of(desk) == (0, 1, 0, 0)


def test_an_idempotency_key_is_for_one_report(desk):
    send(desk, report(desk.decided(), key="k"))
    assert send(desk, report(desk.decided(), key="k"))[0] == 409


def test_an_id_that_this_door_did_not_make_is_refused(desk):
    mine = desk.decided("specialist")
    text, _, mark = mine.id.partition(".")
    facts = urlsafe_b64decode(text + "=" * (-len(text) % 4)).replace(b"specialist\x1f", b"incumbent\x1f", 1)
    other_arm = urlsafe_b64encode(facts).rstrip(b"=").decode()
    facts_of_it = ("rtb-pricing", "iter-002-0000000a", "base", RECORD, "specialist", mine.unit, 0.2, "canary", mine.at)
    stranger = Ids(bytes(32)).decision(*facts_of_it)
    for forged in (
        f"{other_arm}.{mark}",
        f"{text}.",
        text,
        stranger.id,
        mine.id + "A",
        mine.id[:-1],
        "",
        "x.y",
        7,
        None,
    ):
        assert send(desk, report(forged, key="k"))[0] == 403
    assert b'modelsmith_feedback_total{cluster="",result="forged"} 10.0' in desk.recorder.exposition()[1]


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_no_text_is_an_id_by_chance(text):
    assert Ids(KEY).read(text) is None


@pytest.mark.parametrize("value", [0.5, 2, -1, "1", None, True, [1], 1e300])
def test_a_value_is_a_yes_or_a_no(desk, value):
    assert send(desk, report(desk.decided(), value))[0] == 422


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_what_is_no_number_is_refused(desk, value):
    body = json.dumps(report(desk.decided())).encode().replace(b'"value": 1', b'"value": ' + value)
    assert desk.recorder.feedback(body)[0] in (400, 422)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"reports": []}', b'{"reports": 1}',
     b'{"reports": [' + b"1," * MOST + b"1]}", b'{"decision_id": 1}'],
)  # fmt: skip
def test_a_body_that_is_no_report_is_refused_in_words(desk, body):
    status, answer = desk.recorder.feedback(body)
    assert status == 400
    assert "decision_id, metric, value and idempotency_key" in json.dumps(answer)


@pytest.mark.parametrize(
    "twice", [b'"value": 0', b'"decision_id": "x"', b'"metric": "clicks"', b'"idempotency_key": "\\ud800"']
)
def test_a_report_that_two_readers_would_read_differently_counts_nowhere(desk, twice):
    """Proxies and logs see one of the two values; the other would be what counts."""
    body = json.dumps(report(desk.decided("specialist"))).encode()
    for both in (body[:-1] + b", " + twice + b"}", b"{" + twice + b", " + body[1:]):
        assert desk.recorder.feedback(both)[0] == 400
    desk.recorder.flush()
    assert wins_of(desk) == (0, 0, 0, 0)


def test_a_body_that_is_too_large_is_not_read():
    assert read_body(b" " * (1 << 21) + b"{}") is None


def test_a_metric_that_the_rule_does_not_name_is_refused(desk):
    for metric in ("clicks", "errors", "slow", ""):
        assert send(desk, report(desk.decided(), metric=metric))[1]["result"] == "unknown-metric"


def test_a_report_is_late_after_the_time_that_the_rule_states(desk):
    early, late = desk.decided(), desk.decided()
    desk.hands.pass_(minutes=60)
    assert send(desk, report(early))[0] == 200
    desk.hands.pass_(minutes=1)
    assert send(desk, report(late))[0] == 410


def test_another_deployments_id_counts_nowhere(desk):
    other = desk.decided("specialist", record="sha256:" + "0" * 64)
    assert send(desk, report(other))[1]["result"] == "not-watched"
    shadow = desk.decided("specialist", stage="shadow")
    assert send(desk, report(shadow))[1]["result"] == "shadow"


def test_a_key_of_another_cluster_reports_nothing_of_this_one(desk):
    body = json.dumps(report(desk.decided())).encode()
    status, answer = desk.recorder.feedback(body, lambda cluster: cluster == "support")
    assert (status, answer["result"]) == (403, "outside-key")


def test_nobody_uses_up_another_s_idempotency_keys(desk):
    """A second application of the same cluster reports under keys that it guesses the first will use."""
    for sender, result in (("first", "taken"), ("second", "taken"), ("first", "key-reused")):
        body = json.dumps(report(desk.decided(), key="auction-4711")).encode()
        assert desk.recorder.feedback(body, lambda cluster: True, sender)[1]["result"] == result


def test_a_batch_says_of_each_report_what_became_of_it(desk):
    good = report(desk.decided("specialist"))
    status, answer = send(desk, good, good, report("forged"))
    assert status == 200
    assert [result["result"] for result in answer["results"]] == ["taken", "repeated", "forged"]
    assert wins_of(desk) == (1, 1, 0, 0)


def test_a_key_counts_once_however_many_decisions_it_has(desk):
    many = [desk.decided("specialist", key="one customer") for _ in range(20)]
    send(desk, *[report(decision) for decision in many])
    assert wins_of(desk) == (1, 1, 0, 0)


def test_a_key_stays_in_the_stage_in_which_it_was_first_seen(desk):
    """The share grows: a key that was the incumbent's may be the specialist's now, and is counted where it was."""
    send(desk, report(desk.decided("incumbent", key="k", share=0.1)))
    send(desk, report(desk.decided("specialist", key="k", share=0.5)))
    stages = desk.recorder.counts(desk.recorder._watching["rtb-pricing"]).stages
    assert [(stage.share, stage.specialist, stage.incumbent) for stage in stages] == [(0.1, 0, 1)]


def test_a_flood_is_refused_and_counted_and_ends(desk):
    report_sent = report(desk.decided())
    batch = json.dumps({"reports": [report_sent] * MOST}).encode()
    rows = [desk.recorder.feedback(batch)[0] for _ in range(25)]
    assert rows[0] == 200
    assert rows[-1] == 429
    assert b'modelsmith_feedback_total{cluster="",result="flood"}' in desk.recorder.exposition()[1]
    desk.hands.pass_(seconds=1)
    assert desk.recorder.feedback(batch)[0] == 200


def test_a_flood_by_others_stops_no_report_of_this_cluster(desk):
    """Of invented ids, and of a key for another cluster that sends one good report again and again."""
    theirs = replace(watching("sha256:" + "1" * 64), cluster="support")
    desk.recorder.follow([watching(), theirs])
    decision = desk.decided(record=theirs.record, cluster="support")
    for again, last in ((report("forged"), 403), (report(decision), 429)):
        batch = json.dumps({"reports": [again] * MOST}).encode()
        assert [desk.recorder.feedback(batch)[0] for _ in range(25)][-1] == last
    assert send(desk, report(desk.decided()))[0] == 200


def test_a_flood_by_one_key_stops_no_report_by_another_of_its_cluster(desk):
    """Else one application could keep the losses that another one reports out of the window."""
    batch = json.dumps({"reports": [report(desk.decided())] * MOST}).encode()
    assert [desk.recorder.feedback(batch, sender="greedy")[0] for _ in range(25)][-1] == 429
    body = json.dumps(report(desk.decided())).encode()
    assert desk.recorder.feedback(body, sender="modest") == (200, {"result": "taken"})


def test_a_report_of_a_decision_that_a_kill_took_brings_it_back(desk):
    decision = desk.decided("specialist")
    desk.recorder._waiting.clear()
    send(desk, report(decision))
    assert wins_of(desk) == (1, 1, 0, 0)
    assert desk.recorder.counts(desk.recorder._watching["rtb-pricing"]).stages[0].specialist == 1


def test_neither_key_nor_report_stands_in_store_or_metrics(desk):
    decision = desk.decided("specialist", key="customer@example.org")
    send(desk, report(decision, key="order 4711"))
    desk.recorder.flush()
    stored = b"".join(path.read_bytes() for path in desk.folder.rglob("*") if path.is_file())
    figures = desk.recorder.exposition()[1]
    for private in (b"customer@example.org", b"order 4711", decision.id.encode()):
        assert private not in stored
        assert private not in figures
