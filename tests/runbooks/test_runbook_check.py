"""What a runbook may say is decided when it is loaded: names are looked up in tables, and nothing in it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.operations.json_kinds import ANYTHING, kind_of, kinds_at, value_at
from modelsmith.operations.runbook_check import find_runbook_problems
from modelsmith.operations.runbooks import bind, holds, value_of
from modelsmith.repository.yamlfile import find_json_problems
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.runbook import Condition, Reference, Runbook

STATUS = {"id": "a", "about": "x", "call": "status"}
PULL = {"step": "a", "field": "result.pull.number"}


def problems(*steps, **parameters):
    """What is wrong with a runbook of these steps, in one text."""
    fields = {"runbook": "r", "title": "t", "about": "a", "steps": list(steps)}
    data = json.dumps(fields | ({"parameters": parameters} if parameters else {})).encode()
    runbook, problems_found = find_json_problems("runbooks/r.json", data, Runbook)
    problems_found = problems_found if runbook is None else find_runbook_problems("runbooks/r.json", runbook)
    return " | ".join(f"{problem.field}: {problem.message} -> {problem.mend}" for problem in problems_found)


def step(call, id="a", **more):
    return {"id": id, "about": "x", "call": call} | more


def shows(field):
    """A second step that takes its number from a field of the first."""
    return step("pr show", "b", arguments={"number": {"step": "a", "field": field}})


def expects(**condition):
    """A step that expects something of its own result."""
    return step("status", expect=[{"step": "a"} | condition])


def text(about="x", **more):
    return {"kind": "text", "about": about} | more


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([step("statsu")], "there is no operation 'statsu' -> Did you mean 'status'?"),
        ([step("approve", arguments={"number": 4})], "no runbook approves"),
        ([step("reject", arguments={"number": 4})], "no runbook approves"),
        ([step("jobs resume", arguments={"job": "eval-1"})], "goes on with whatever a job was asked for"),
        ([step("runbook run", arguments={"name": "r"})], "a runbook within a runbook"),
        ([step("strike", arguments={"cluster": "c", "row": "x"})], "does more when it is called again"),
        ([step("pr show")], "pr show needs 'number'"),
        ([step("pr show", arguments={"number": "4"})], "Input should be a valid integer"),
        ([step("pr show", arguments={"number": True})], "Input should be a valid integer"),
        ([step("pr show", arguments={"numbr": 4, "number": 4})], "takes no 'numbr' -> Did you mean 'number'?"),
        ([step("pr merge", arguments={"number": 4, "key": "id"})], "takes no 'key' from a runbook"),
        ([step("doctor", arguments={"apply": True})], "takes no 'apply' from a runbook"),
        ([step("export-inspect", arguments={"tag": "x"})], "needs 'file' -> Call another operation"),
        ([step("pr show", arguments={"number": PULL})], "step 'a' does not come before"),
        ([step("pr show", "b", arguments={"number": PULL})], "there is no step 'a'"),
        ([step("pr show", arguments={"number": {"parameter": "n"}})], "there is no parameter 'n'"),
        ([STATUS, STATUS], "'a' names an earlier step too"),
        ([STATUS, shows("result.nothing")], "gives no"),
        ([STATUS, shows("result.clusters")], "gives array"),
        ([STATUS, shows("exit.real")], "gives no 'exit.real'"),
        ([expects(field="exit", test="is", to="0")], "is never what is named"),
        ([expects(field="result.clusters", test="at-most", to=1)], "as a number"),
        ([expects(field="exit", test="one-of", to=1)], "is no list"),
        ([step("status", when=[{"step": "a", "field": "exit", "test": "is", "to": 0}])], "does not come before"),
    ],
)  # fmt: skip
def test_what_could_not_run_is_named_with_its_mend(steps, said):
    assert said in problems(*steps)


@pytest.mark.parametrize(
    "name", ["__class__", "run.__globals__", "os system", "status; rm", "../status", "load", "status\n", "INIT"]
)
def test_a_step_s_name_reaches_nothing_but_the_table(name):
    assert "steps[0].call" in problems(step(name))


@pytest.mark.parametrize(
    "field", ["__class__", "result.__class__", "result.clusters.-1", "result.clusters.0x1", "result..x", "", "result",
              "result.clusters.__len__", "result.model_dump", "../x", "result.clusters[0]", "result.{x}"],
)  # fmt: skip
def test_a_reference_reaches_nothing_but_json(field):
    assert problems(STATUS, shows(field))


@pytest.mark.parametrize(
    "value",
    [
        {"parameter": "p", "step": "a", "field": "exit"},
        {"step": "a"},
        {},
        {"env": "HOME"},
        {"parameter": "p", "default": 1},
        [{"parameter": "p"}],
        [[1]],
        None,
    ],
)
def test_a_value_is_written_out_or_named_and_nothing_else(value):
    assert problems(STATUS, step("diagnose", "b", arguments={"tag": value}), p=text())


def test_a_runbook_has_no_more_steps_than_its_schema_says():
    many = [step("status", f"s{number}") for number in range(41)]
    assert problems(*many[:40]) == ""
    assert "steps" in problems(*many)


def test_a_step_that_may_be_passed_over_is_named_under_its_condition():
    condition = {"step": "a", "field": "exit", "test": "is", "to": 0}
    first = step("iterate", arguments={"cluster": "c"}, exits=[0, 4])
    when = {"step": "a", "field": "result.pull", "test": "is-not", "to": None}
    show_step = step("pr show", "b", when=[when], arguments={"number": {"step": "a", "field": "result.pull"}})
    after = {
        "id": "c",
        "about": "x",
        "call": "pr ask",
        "arguments": {"number": {"step": "b", "field": "result.pull.number"}},
    }
    assert "may have been passed over" in problems(first, show_step, after)
    assert "may have been passed over" in problems(first, show_step, after | {"when": [condition]})
    assert problems(first, show_step, after | {"when": [when]}) == ""


def test_a_parameter_fits_every_place_that_names_it():
    call_step = step("pr show", arguments={"number": {"parameter": "n"}})
    assert problems(call_step, n={"kind": "number", "about": "x"}) == ""
    assert "takes integer, and what is named gives string" in problems(call_step, n=text())
    assert "is no number" in problems(call_step, n={"kind": "number", "about": "x", "default": "4"})
    assert "no step uses it" in problems(STATUS, n=text())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "needs cluster"),
        (["cluster=a", "cluster=b"], "given twice"),
        (["clster=a"], "names no parameter"),
        (["cluster"], "names no parameter"),
        (["cluster="], "from 1 to 500"),
        (["cluster=a\nb"], "cluster: "),
        (["cluster=a\u202eb"], "cluster: "),
        (["cluster=a", "most=four"], "whole number"),
        (["cluster=a", "sure=yes"], "flag"),
        (["cluster=ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"], "looks like a secret"),
    ],
)
def test_values_are_read_strictly(given, said):
    runbook = Runbook.model_validate_json(
        json.dumps({
            "runbook": "r", "title": "t", "about": "a", "steps": [STATUS],
            "parameters": {
                "cluster": text(), "most": {"kind": "number", "about": "x", "default": None},
                "sure": {"kind": "flag", "about": "x", "default": False},
            },
        })
    )  # fmt: skip
    assert bind(runbook, ["cluster=a=b", "sure=true"]) == {"cluster": "a=b", "most": None, "sure": True}
    with pytest.raises(InvalidInput, match=said):
        bind(runbook, given)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "0", "1", "9999", "__class__"]), max_size=4)


@given(JSON, PATHS)
def test_reading_any_place_of_any_json_gives_json_or_null(data, path):
    value = value_at(data, path)
    assert kind_of(value) in ANYTHING
    assert json.loads(json.dumps(value)) == value


@given(JSON, JSON)
def test_comparing_never_fails_and_a_flag_is_no_number(value, to):
    outcomes = {"a": {"exit": 0, "result": {"v": value}}}
    plain = to if not isinstance(to, dict | list) else 1
    for test in ("is", "is-not", "at-least", "at-most", "one-of"):
        condition = Condition(step="a", field="result.v", test=test, to=plain)
        assert holds(condition, {}, outcomes) in (True, False)
    yes = Condition(step="a", field="result.v", test="is", to=1)
    assert holds(yes, {}, {"a": {"result": {"v": True}}}) is False
    assert value_of(Reference(step="b", field="exit"), {}, outcomes) is None


def test_kinds_follow_a_schema_s_references_and_choices():
    schema = {
        "$defs": {"T": {"type": "object", "properties": {"t": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}}}},
        "type": "object",
        "properties": {"t": {"$ref": "#/$defs/T"}, "l": {"type": "array", "items": {"enum": ["x", 1]}}},
    }
    assert kinds_at(schema, ["t", "t", "t"]) == {"object", "null"}
    assert kinds_at(schema, ["l", "7"]) == {"string", "integer", "null"}
    assert kinds_at(schema, ["l", "x"]) == kinds_at(schema, ["t", "u"]) == frozenset()


def test_the_toolkit_s_own_runbooks_have_no_mistake():
    for path in (Path(__file__).parents[2] / "runbooks").glob("*.json"):
        runbook, errors = find_json_problems(f"runbooks/{path.name}", path.read_bytes(), Runbook)
        assert runbook is not None, errors
        assert find_runbook_problems(f"runbooks/{path.name}", runbook) == []
