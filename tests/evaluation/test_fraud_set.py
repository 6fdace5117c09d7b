"""The fintech kit's set: many answers are right, and none that hurts somebody is.

The playbook is written here a second time, in Python, and the rubric's declared checks are held against it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import permutations
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import modelsmith
from modelsmith.diagnosis.firewall import scored_texts, separate
from modelsmith.diagnosis.generate import prompts_for_all
from modelsmith.evaluation.corpus.balance import balance
from modelsmith.evaluation.scoring import decide, reward
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree

GOVERNED = load_eval_set(WorkTree(Path(modelsmith.__file__).parents[1]), "fintech/fraud-typology")
SCENARIOS = (*GOVERNED.core, *GOVERNED.held_out, *GOVERNED.micro)
SUSPECTS = {"laundering", "synthetic_identity", "first_party_fraud"}
STOPS = {
    "account_takeover": "block_login",
    "authorised_scam": "call_customer",
    "card_testing": "step_up_checks",
    "first_party_fraud": "open_case",
    "laundering": "limit_account",
    "synthetic_identity": "limit_account",
}
UNDONE = (
    "block_login",
    "call_customer",
    "hold_payment",
    "limit_account",
    "open_case",
    "recall_payment",
    "step_up_checks",
)
FINAL = ("file_report", "replace_card")
STEPS = (*UNDONE, *FINAL)


def failed(answer: object, reference: dict[str, object]) -> set[str]:
    """Rubric points that the answer fails."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return {point for point, passed in decide(GOVERNED.rubric, reference, text)[0].items() if not passed}


def playbook(answer: dict[str, object], reference: dict[str, object]) -> set[str]:
    """The same by the rules as a fraud lead would say them."""
    typology, hold, steps = answer["typology"], answer["hold"], answer["steps"]
    firsts = [step in FINAL for step in steps]
    rules = {
        "typology": typology == reference["typology"],
        "hold": abs(hold - reference["hold"]) <= reference["hold"] * 0.05 + 1e-9,
        "hold-and-step": bool(steps) and (hold > 0) == ("hold_payment" in steps),
        "stops-the-loss": STOPS[typology] in steps,
        "no-tipping-off": bool(steps) and not (typology in SUSPECTS and {"call_customer", "replace_card"} & {*steps}),
        "reversible-first": bool(steps) and not firsts[0] and firsts == sorted(firsts),
        "proportionate": 2 <= len(steps) <= 4 and len(steps) == len({*steps}),
    }
    return {rule for rule, holds in rules.items() if not holds}


@settings(max_examples=150)
@given(
    st.sampled_from(SCENARIOS),
    st.sampled_from(sorted(STOPS)) | st.none(),
    st.sampled_from((None, 0, 1.0, 1.04, 1.06, 0.94, 0.96)),
    st.lists(st.sampled_from(STEPS), max_size=4) | st.none(),
)
def test_the_declared_points_say_what_the_playbook_says(scenario, typology, share, steps):
    reference = scenario.reference
    answer = {
        "typology": typology or reference["typology"],
        "hold": reference["hold"] if share is None else reference["hold"] * share,
        "steps": reference["steps"] if steps is None else steps,
    }
    assert failed(answer, reference) == playbook(answer, reference)


def test_every_case_has_many_right_answers():
    for right in {
        json.dumps(scenario.reference | {"hold": min(scenario.reference["hold"], 100)}) for scenario in SCENARIOS
    }:
        reference = json.loads(right)
        lists = ({"steps": [*steps]} for count in (2, 3) for steps in permutations(STEPS, count))
        right_answers = [reference | steps for steps in lists if not playbook(reference | steps, reference)]
        assert len(right_answers) >= 20, right
        assert not any(failed(answer, reference) for answer in right_answers[::10])


def test_common_wrong_answers_fail_the_point_that_forbids_them():
    for scenario in SCENARIOS:
        for answer, point in wrong_answers(scenario.reference):
            assert point in failed(answer, scenario.reference), (scenario.id, answer)
            text = answer if isinstance(answer, str) else json.dumps(answer)
            assert reward(GOVERNED.rubric, scenario.reference, text) < 1


def wrong_answers(right: dict[str, object]) -> list[tuple[object, str]]:
    """Answers as they go wrong in practice, each with a point that it must fail."""
    steps, hold = right["steps"], right["hold"]
    wrong: list[tuple[object, str]] = [
        (right | {"hold": hold * 2 if hold else 500}, "hold"),
        (right | {"hold": hold * 0.9 if hold else 1}, "hold"),
        (right | {"steps": ["file_report", *[step for step in steps if step not in FINAL]]}, "reversible-first"),
        (right | {"steps": [*steps, *steps]}, "proportionate"),
        (right | {"steps": [step for step in steps if step != STOPS[right["typology"]]]}, "stops-the-loss"),
        (right | {"steps": [*steps, "close_account"]}, "answer-format"),
        (right | {"why": "It looks odd."}, "answer-format"),
        (f"Here it is: {json.dumps(right)}", "answer-format"),
        ("It is fraud.", "typology"),
    ]
    wrong += [(right | {"typology": other}, "typology") for other in STOPS if other != right["typology"]]
    if right["typology"] in SUSPECTS:
        wrong.append((right | {"steps": ["call_customer", *steps[:3]]}, "no-tipping-off"))
    if hold:
        wrong.append((right | {"steps": [step for step in steps if step != "hold_payment"]}, "hold-and-step"))
        wrong.append((right | {"hold": 0}, "hold"))
    else:
        wrong.append((right | {"steps": ["hold_payment", *steps[:3]]}, "hold-and-step"))
    return wrong


def test_a_sum_within_five_percent_is_close_enough():
    scenario = next(case for case in GOVERNED.core if case.id == "ato-core-09")
    assert scenario.reference["hold"] == 6000 + 5500
    assert not failed(scenario.reference | {"hold": 11000}, scenario.reference)


def test_every_sum_to_hold_can_be_found_in_its_note():
    """It stands there, or it is the sum of two that do: then the criterion says so."""
    added = {case.id for case in SCENARIOS if not _says(case.messages[-1].content, case.reference["hold"])}
    assert added == {"ato-core-09", "ato-held-09"}
    for scenario in SCENARIOS:
        for text in scenario.variants:
            assert _says(text, scenario.reference["hold"]) or scenario.id in added, scenario.id


def _says(note: str, hold: int) -> bool:
    return not hold or str(hold) in re.findall(r"\d+", note)


def test_the_set_is_even_and_held_out_asks_in_the_proportions_of_core():
    set_balance = balance(GOVERNED)
    assert not set_balance.flags
    assert {len(scenario.wordings()) for scenario in GOVERNED.core} == {2}
    for part in (GOVERNED.core, GOVERNED.held_out):
        assert set(Counter(scenario.capability for scenario in part).values()) == {10}
        assert sum(case.critical for case in part) == 6
        zero_holds = Counter(scenario.capability for scenario in part if scenario.reference["hold"] == 0)
        assert min(zero_holds.values()) >= 2
        assert max(zero_holds.values()) <= 8


def test_practice_teaches_every_capability_both_ways_and_no_exam_text():
    rows = prompts_for_all(GOVERNED, 240, 17)
    separation = separate(rows, scored_texts(GOVERNED), GOVERNED.evalset.separation.training_to_scored)
    assert len(separation.dropped) <= 5
    assert set(Counter(row.generator for row in rows).values()) == {20}
    combinations = Counter((row.expected["typology"], row.expected["hold"] > 0) for row in separation.rows)
    assert len(combinations) == 2 * len(STOPS)
    for row in separation.rows:
        assert reward(GOVERNED.rubric, row.expected, row.answer) == 1
        assert _says(row.messages[-1].content, row.expected["hold"])
