"""The seven named checks are the gate's decision: nothing of it is lost, and nothing is in two of them."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelsmith
from modelsmith.governance.gate import CheckResult, GateDecision, Need
from modelsmith.governance.named_checks import CHECKS, NAMES, QUESTIONS, REFUSALS, named_checks, unjudged, unsigned
from modelsmith.governance.shape import Refusal

SOURCE = Path(modelsmith.__file__).parent
NEED = Need("/promotions/", ("@head-of-trading",), ("promotions/a",), None, ("maya", "noor"))
EMPTY = GateDecision(True, "harness", (), (), (), (), (), (), ())


def decided(*checks, refusals=(), needs=()):
    failed = [Refusal("check-failed", f"{check.name}: {check.sentence}") for check in checks if not check.passed]
    waiting = tuple(owner for need in needs if not need.satisfied_by for owner in need.owners)
    return replace(
        EMPTY, open=not (failed or refusals or waiting), checks=checks, refusals=(*failed, *refusals), needs=needs,
        waiting_for=waiting,
    )  # fmt: skip


def by_name(decision):
    return {check.name: check for check in named_checks(decision)}


def names_in_the_code(module, kind):
    """Words that the code itself gives to checks (or refusals): arguments, yields of pairs, constants that stand there.

    What is computed is named here, so that a new way of naming one is seen.
    """
    names = set()
    constants = {}
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            constants[node.targets[0].id] = node.value.value
    for node in ast.walk(ast.parse(module.read_text())):
        first = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == kind:
            first = node.args[0]
        elif isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple) and kind == "CheckResult":
            first = node.value.elts[0]
        if isinstance(first, ast.Constant):
            names.add(first.value)
        elif isinstance(first, ast.Name) and first.id in constants:
            names.add(constants[first.id])
        elif first is not None:
            assert ast.unparse(first) in ("name", "error.code"), ast.unparse(first)
    return names


def all_of(kind, *folders):
    files = [path for folder in folders for path in (SOURCE / folder).glob("*.py")]
    relevant = [path for path in files if kind in path.read_text()]
    return set().union(*(names_in_the_code(path, kind) for path in relevant))


def test_every_check_of_the_gate_belongs_to_exactly_one_answer():
    assert all_of("CheckResult", "governance", "promotion") == set(CHECKS)
    assert set(CHECKS.values()) <= set(NAMES) == set(QUESTIONS)


def test_every_refusal_belongs_to_exactly_one_answer():
    computed = {"bad-record-folder", "check-failed"}
    assert all_of("Refusal", "governance", "promotion") | computed == set(REFUSALS) | {"check-failed"}


checks = st.builds(CheckResult, st.sampled_from(sorted(CHECKS)), st.booleans(), st.just("So it is."))
refused = st.builds(Refusal, st.sampled_from(sorted(REFUSALS)), st.just("It may not."))
needs = st.sampled_from([NEED, replace(NEED, satisfied_by="maya")])


@given(st.lists(checks, unique_by=lambda check: check.name), st.lists(refused), st.lists(needs, max_size=2))
def test_all_seven_pass_exactly_when_the_gate_is_open(some, codes, asked):
    decision = decided(*some, refusals=tuple(codes), needs=tuple(asked))
    answers = named_checks(decision)
    assert [answer.name for answer in answers] == list(NAMES)
    assert all(answer.passes for answer in answers) == decision.open
    rows = [line for answer in answers for line in (answer.title, *answer.lines)]
    assert all(any(check.sentence in line for line in rows) for check in some)


def test_a_missing_approval_waits_for_its_owner_by_name():
    answer = by_name(decided(CheckResult("record", True, "Fine."), needs=(NEED,)))["approvals"]
    assert (answer.state, answer.title) == ("action_required", "It waits for @head-of-trading.")
    assert answer.lines == ("/promotions/ (@head-of-trading): missing; maya, noor can give it",)


def test_an_inconclusive_eval_asks_for_a_person_and_a_failed_one_does_not():
    unsure = CheckResult("verdict", False, "the verdict is INCONCLUSIVE: too few", undecided=True)
    assert by_name(decided(unsure))["evidence"].state == "action_required"
    assert by_name(decided(CheckResult("verdict", False, "the verdict is FAIL")))["evidence"].state == "failure"
    both = decided(unsure, CheckResult("question", False, "it is another question"))
    assert by_name(both)["evidence"].state == "failure"


def test_what_does_not_apply_is_neutral_and_not_green():
    answers = by_name(decided(CheckResult("valid-files", True, "every governed file validates")))
    assert {name for name, answer in answers.items() if answer.state == "neutral"} == {
        "evidence",
        "approvals",
        "rollback",
    }


@pytest.mark.parametrize("what", ["record", "size", "observation"])
def test_what_could_not_be_looked_at_is_never_neutral(what):
    answers = by_name(decided(CheckResult(what, False, "record.json is missing")))
    assert {answers[name].state for name in ("schema", "evidence", "rollback")} == {"failure"}
    assert "record.json is missing" in answers["evidence"].title


def test_without_a_judgement_nothing_passes():
    assert {check.state for check in unjudged("it does not merge cleanly")} == {"failure"}
    assert {check.state for check in unsigned("nobody has signed for it")} == {"action_required"}


def test_a_check_that_nobody_assigned_still_counts():
    assert by_name(decided(CheckResult("of-tomorrow", False, "it is wrong")))["policy"].state == "failure"
