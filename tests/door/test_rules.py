"""Whose a request is: the first rule that takes it, the same each time; and who answers, by a key that only adds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelsmith.governance.router import RequestParts, Rules, assigned
from modelsmith.repository.router_problems import odd_rules
from modelsmith.repository.sets import read_source
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import validate
from modelsmith.schema.router import Router

CLUSTERS = ("bids", "traffic")


def rules(*rule_documents):
    return Rules(Router.model_validate_json(json.dumps({"rules": rule_documents})), CLUSTERS)


def request_parts(model="m", headers=None, **body):
    return RequestParts(model, headers or {}, {"model": model, **body})


def says(*texts):
    return {"messages": [{"role": "user", "content": text} for text in texts]}


ALL = {"name": "all", "cluster": "traffic"}


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"model": ["a", "b"]}, request_parts("b"), request_parts("A")),
        (
            {"headers": {"x-desk": "emea"}},
            request_parts(headers={"x-desk": "emea"}),
            request_parts(headers={"x-desk": "emea "}),
        ),
        ({"body": {"/a/0/b~1c": "x"}}, request_parts(a=[{"b/c": "x"}]), request_parts(a={"0": {"b/c": "y"}})),
        ({"body": {"/n": 1}}, request_parts(n=1), request_parts(n=True)),
        ({"body": {"/n": True}}, request_parts(n=True), request_parts(n=1)),
        (
            {"metadata": {"tier": "gold"}},
            request_parts(metadata={"tier": "gold"}),
            request_parts(metadata=["tier", "gold"]),
        ),
        (
            {"last_message": r"(?i)\bbid\b"},
            request_parts(**says("x", "A BID?")),
            request_parts(**says("a bid", "forbidden")),
        ),
        ({"model": ["a"], "metadata": {"t": "g"}}, request_parts("a", metadata={"t": "g"}), request_parts("a")),
    ],
)
def test_a_rule_takes_what_meets_all_of_its_conditions(when, yes, no):
    ruleset = rules({"name": "first", "when": when, "cluster": "bids"}, ALL)
    assert (ruleset.route(yes).cluster, ruleset.route(yes).rule) == ("bids", "first")
    assert ruleset.route(no).cluster == "traffic"
    assert next(ruleset.passed_over(no))[0] == "first"
    assert list(ruleset.passed_over(yes)) == []


def test_texts_in_parts_and_in_two_forms_of_unicode_are_read_alike():
    ruleset = rules({"name": "one", "when": {"last_message": "caf\u00e9"}, "cluster": "bids"})
    parts = [{"type": "image_url"}, {"type": "text", "text": "cafe\u0301"}, {"type": "text", "text": 7}, "caf\u00e9"]
    assert ruleset.route(request_parts(messages=[{"role": "user", "content": parts}])).cluster == "bids"
    for nothing in ({}, {"messages": []}, {"messages": ["x"]}, {"messages": [{"content": None}]}, {"messages": 3}):
        assert ruleset.route(request_parts(**nothing)) is None


def test_without_rules_the_model_names_the_cluster():
    plain = Rules(None, CLUSTERS)
    assert plain.route(request_parts("bids")).cluster == "bids"
    for odd in ("BIDS", "bids ", "../bids", "bids/cluster.yaml", "", "base"):
        assert plain.route(request_parts(odd)) is None


WHENS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.lists(st.sampled_from("abc"), min_size=1, max_size=2),
        "headers": st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from("12"), min_size=1),
        "body": st.dictionaries(st.sampled_from(["/p", "/q/0"]), st.sampled_from(["1", 1, True]), min_size=1),
        "last_message": st.sampled_from(["a", "b+", "^c$", "(ab)*c"]),
    },
)


@given(
    st.lists(WHENS, min_size=1, max_size=40),
    st.sampled_from("abcd"),
    st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from("123")),
    st.fixed_dictionaries(
        {}, optional={"p": st.sampled_from(["1", 1, True]), "q": st.lists(st.sampled_from(["1", 1]))}
    ),
    st.text("abc", max_size=4),
)
@example([{"last_message": "z"}] * 30 + [{"last_message": "a"}], "a", {}, {}, "a")
def test_the_index_of_rules_finds_what_reading_them_in_order_finds(whens, model, headers, body, text):
    ruleset = rules(*({"name": f"r{n}", "when": when, "cluster": "bids"} for n, when in enumerate(whens)))
    request = request_parts(model, headers, **body, **says(text))
    passed = [name for name, _ in ruleset.passed_over(request)]
    route = ruleset.route(request)
    assert (route.rule if route else None) == (f"r{len(passed)}" if len(passed) < len(whens) else None)


SHARES = st.floats(0, 1)


@given(st.text(max_size=20), SHARES, SHARES)
def test_a_share_that_grows_only_adds_keys(key, one, other):
    less, more = sorted((one, other))
    assert assigned(key, "c", "iter-1", less) <= assigned(key, "c", "iter-1", more)
    assert assigned(key, "c", "iter-1", 1.0)
    assert not assigned(key, "c", "iter-1", 0.0)


def test_cohorts_change_with_each_candidate():
    keys = [str(number) for number in range(4000)]
    first, second = ({k for k in keys if assigned(k, "c", name, 0.2)} for name in ("iter-1", "iter-2"))
    assert 0.17 < len(first) / len(keys) < 0.23
    assert 0.02 < len(first & second) / len(keys) < 0.06
    assert "iter-1" not in {k for k in keys if assigned(k, "c", "iter-1", 0.2)}


def test_validate_names_each_mistake_of_the_rules(tmp_path: Path):
    """A rule that is never reached, an unknown cluster, a name twice, a pattern that RE2 refuses or that is a bomb."""
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/router.yaml").write_text(
        "rules:\n"
        "- {name: one, when: {last_message: '(?=x)'}, cluster: bids}\n"
        "- {name: one, cluster: nowhere}\n"
        "- {name: late, when: {last_message: '((a{100}){10}){10}'}, cluster: bids}\n"
    )
    problems = validate(WorkTree(tmp_path), ["clusters/router.yaml"]).problems
    rows = [(problem.line, problem.field) for problem in problems]
    assert rows == [
        (2, "rules[0].cluster"), (2, "rules[0].when.last_message"), (3, "rules[1].cluster"), (3, "rules[1].name"),
        (4, "rules[2]"), (4, "rules[2].cluster"), (4, "rules[2].when.last_message"),
    ]  # fmt: skip
    assert all(problem.message and problem.mend for problem in problems)


def test_validate_names_rules_that_no_request_comes_to(tmp_path: Path):
    """What rules before a rule take, and what no header can be, is odd; what may be meant so is not."""
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/router.yaml").write_text(
        "rules:\n"
        "- {name: m, when: {model: [m]}, cluster: bids}\n"
        "- {name: n-gold, when: {model: [n], metadata: {tier: gold}}, cluster: bids}\n"
        "- {name: both, when: {model: [m, n], body: {/metadata/tier: gold}}, cluster: bids}\n"
        "- {name: n-too, when: {model: [m, n]}, cluster: bids}\n"
        "- {name: one, when: {body: {/n: 1}}, cluster: bids}\n"
        "- {name: true-is-not-one, when: {body: {/n: true}}, cluster: bids}\n"
        "- {name: word, when: {last_message: bid}, cluster: bids}\n"
        "- {name: word-again, when: {last_message: bid, headers: {x-desk: a}}, cluster: bids}\n"
        "- {name: key, when: {headers: {authorization: Bearer k}}, cluster: bids}\n"
        "- {name: blank, when: {headers: {x-desk: 'a '}}, cluster: bids}\n"
    )
    (tmp_path / "clusters/bids").mkdir()
    report = validate(WorkTree(tmp_path), ["clusters/router.yaml"])
    odd = {(warning.line, warning.field) for warning in report.warnings}
    assert odd == {
        (4, "rules[2]"), (9, "rules[7]"), (10, "rules[8].when.headers.authorization"),
        (11, "rules[9].when.headers.x-desk"),
    }  # fmt: skip
    warning = next(warning.message for warning in report.warnings if warning.line == 4)
    assert "'m' and 'n-gold' before it" in warning
    assert all("never reached" not in problem.message for problem in report.problems)


@given(st.lists(WHENS, min_size=1, max_size=8), st.data())
def test_a_rule_that_is_called_unreachable_takes_nothing(whens, data):
    """Whatever request meets it, a rule before it has taken that one."""
    rule_documents = [{"name": f"r{n}", "when": when, "cluster": "bids"} for n, when in enumerate(whens)]
    text = json.dumps({"rules": rule_documents}).encode()
    source = read_source("clusters/router.yaml", text, Router)[0]
    ruleset = rules(*rule_documents)
    for problem in odd_rules(source):
        number = int(re.fullmatch(r"rules\[(\d+)\]", problem.field)[1])
        when = whens[number]
        model = data.draw(st.sampled_from(when.get("model", ["a", "z"])))
        message = {"a": "a", "b+": "bb", "^c$": "c", "(ab)*c": "abc"}[when.get("last_message", "a")]
        body = {
            place[1:].split("/")[0]: [value] if "/0" in place else value
            for place, value in when.get("body", {}).items()
        }
        route = ruleset.route(request_parts(model, when.get("headers", {}), **body, **says(message)))
        assert int(route.rule[1:]) < number
