"""How a cluster's composite moved, as a reviewer reads it."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from histories import history, name, question, routing, run, specialist_history
from picture_rules import assert_readable

from modelsmith.evidence.composite_history import HistoryEntry, Promoted
from modelsmith.evidence.history_chart import history_chart
from modelsmith.governance.audiences import AUDIENCE
from modelsmith.schema.evalset import Thresholds

GOLDEN = Path(__file__).parent / "golden" / "composite-history.svg"
SVG = "{http://www.w3.org/2000/svg}"
DEPLOYED = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed")
BASE, FIRST, SECOND = run(0, 0.05), run(1, 0.62, minute=10), run(2, 0.86, minute=20)
LATER = (run(0, 0.02, "1.1.0", minute=30), run(3, 0.79, "1.1.0", minute=40))


def whole():
    return history(
        BASE, FIRST, SECOND, *LATER,
        histories=(
            specialist_history(None, 1, "candidate"),
            specialist_history(SECOND, 2, *DEPLOYED, "rolled-back"),
            specialist_history(LATER[1], 3, *DEPLOYED),
        ),
        routed=routing(base=0.9, iter_003=0.1),
    )  # fmt: skip


def test_runs_stand_in_the_order_of_time_with_what_came_of_them():
    page = whole()
    assert [(entry.number, entry.model) for entry in page.entries] == [
        (1, "base"), (2, name(1)), (3, name(2)), (4, "base"), (5, name(3)),
    ]  # fmt: skip
    assert page.entries[2].events == (*DEPLOYED, "rolled-back")
    assert [entry.serves for entry in page.entries] == [0.0, 0.0, 0.0, 0.9, 0.1]
    assert page.entries[1].verdict == "FAIL"
    assert page.entries[2].composite.low == pytest.approx(0.8)
    assert page.serving == {"base": 0.9, name(3): 0.1}


def test_the_base_model_is_the_reference_of_each_question():
    assert [scenario.reference.value for scenario in whole().questions] == [0.05, 0.02]
    assert history(FIRST).questions[0].reference is None


def test_another_question_is_another_line_and_is_said():
    page = whole()
    assert [entry.question for entry in page.entries] == [1, 1, 1, 2, 2]
    assert [change.number for change in page.changes] == [4]
    assert page.changes[0].sentence == (
        "Question 2, not comparable with 1: other core cases, prompt or sampling "
        "(adtech/rtb-root-cause 1.1.0, before 1.0.0)."
    )
    picture = ET.fromstring(history_chart(page))
    blue = [
        line
        for line in picture.iter(f"{SVG}line")
        if (line.get("stroke"), line.get("stroke-width")) == ("#0969da", "2")
    ]
    joined = [line for line in blue if line.get("x1") != line.get("x2")]
    assert len(joined) == 1, "only the two specialists of the first question are joined"


def test_a_question_that_comes_back_keeps_its_number():
    again = run(3, 0.8, minute=50)
    page = history(FIRST, run(2, 0.7, "1.1.0", minute=20), again)
    assert [entry.question for entry in page.entries] == [1, 2, 1]
    assert [change.number for change in page.changes] == [2, 3]


@pytest.mark.parametrize(
    ("changes", "said", "comparable"),
    [
        ({"question": question("1.0.0", "new"), "run_id": run(9, 0.1).run_id}, "held-out", True),
        ({"weights_of_parts": (0.4, 0.4, 0.2), "run_id": run(9, 0.1).run_id}, "weights of the composite", False),
        ({"rubric": run(9, 0.1).run_id, "question": question("2")}, "rubric", False),
        ({"eval_set": "adtech/other", "question": question("2")}, "eval set and core cases", False),
    ],
)
def test_what_changed_is_named(changes, said, comparable):
    page = history(FIRST, run(2, 0.9, minute=20, **changes))
    assert f"other {said}" in page.changes[0].sentence
    assert ("2, comparable with 1 except in held-out" in page.changes[0].sentence) == comparable


def test_quick_and_partial_runs_show_only_when_asked_for():
    quick, partial = run(2, 0.9, minute=5, quick=True), run(3, 0.8, minute=6, sections=("core",))
    assert [entry.model for entry in history(FIRST, quick, partial).entries] == [name(1)]
    page = history(FIRST, quick, partial, everything=True)
    assert [(entry.model, entry.complete) for entry in page.entries] == [
        (name(1), True),
        (name(2), False),
        (name(3), False),
    ]


def test_an_incomplete_run_is_never_the_reference_nor_said_to_serve():
    page = history(run(0, 0.9, quick=True), FIRST, routed=routing(base=1.0), everything=True)
    assert page.questions[0].reference is None
    assert page.entries[0].serves == 0


def test_one_run_under_two_tags_is_one_run_at_its_first_place():
    again = run(0, 0.05, minute=30, tag="rtb-pricing-base-again")
    page = history(BASE, FIRST, again)
    assert [(entry.model, entry.tag) for entry in page.entries] == [("base", BASE.tag), (name(1), FIRST.tag)]


def test_a_failure_stays_one_when_a_later_rule_lets_the_same_answers_pass():
    """Evaluated again under another tag, or under the same: the verdict is that of its day, and the other is beside."""
    failed = run(1, 0.5)
    lower = failed.rule.model_copy(update={"thresholds": Thresholds(composite=0.4, held_out=0.4)})
    passed = failed.headline.model_copy(update={"verdict": "PASS"})
    again = {"rule": lower, "headline": passed}
    other_tag = history(failed, failed.model_copy(update=again | {"tag": "again"}))
    same_tag = history(failed.model_copy(update=again | {"before": failed.by_rule}))
    for page in (other_tag, same_tag):
        (entry,) = page.entries
        assert (entry.verdict, entry.threshold) == ("FAIL", 0.7)
        assert [(judged_again.verdict, judged_again.threshold) for judged_again in entry.rejudged] == [("PASS", 0.4)]
        assert "FAIL; PASS by a later rule, threshold 0.4" in history_chart(page)


def test_a_plain_clone_shows_what_main_holds(evidence):
    """Without a ledger: base and candidate of each evidence, in the order of iterations."""
    promoted = []
    for number in (2, 1):
        candidate = evidence.candidate.model_copy(update={"model": name(number), "run_id": run(number, 0.5).run_id})
        of = run(number, 0.5, run_id=candidate.run_id, tag=f"tag-{number}")
        record = specialist_history(of, number, *DEPLOYED, evidence=True).records[1]
        promoted.append(Promoted(record, evidence.model_copy(update={"candidate": candidate})))
    page = history(promoted=tuple(promoted))
    assert [(entry.model, entry.tag) for entry in page.entries] == [
        ("base", None),
        (name(1), "tag-1"),
        (name(2), "tag-2"),
    ]
    assert page.entries[1].composite == evidence.candidate.headline.composite
    assert page.questions[0].reference == evidence.incumbent.headline.composite


def test_what_only_main_knows_stands_between_the_iterations_of_the_ledger(evidence):
    candidate = evidence.candidate.model_copy(update={"model": name(2)})
    of = run(2, 0.5, run_id=candidate.run_id)
    lost = Promoted(
        specialist_history(of, 2, *DEPLOYED, evidence=True).records[1],
        evidence.model_copy(update={"candidate": candidate, "incumbent": candidate}),
    )
    third = run(3, 0.8, minute=40)
    page = history(BASE, FIRST, run(0, 0.1, minute=15), third, promoted=(lost,))
    assert [entry.model for entry in page.entries] == ["base", name(1), "base", name(2), name(3)]


def test_nothing_that_is_the_operators_is_shown():
    operators = set(AUDIENCE["RunResult"]["operator"]) | set(AUDIENCE["Observation"]["operator"])
    assert not operators & set(HistoryEntry.model_fields)
    assert "2026" not in whole().model_dump_json()
    assert "2026" not in history_chart(whole())


LONG = history(
    *(run(n, 0.3 + 0.02 * n, "1.0.0" if n < 20 else f"1.{n}.0", minute=n) for n in range(30)),
    routed=routing(iter_029=1.0),
)
SHAPES = {
    "two questions": whole(),
    "no run": history(),
    "one run": history(BASE),
    "thirty runs, eleven questions": LONG,
    "a quick run": history(FIRST, run(2, 1.0, minute=3, quick=True), everything=True),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_picture_is_readable_on_any_page_and_loads_nothing(shape):
    assert_readable(history_chart(SHAPES[shape]))


def test_the_picture_is_as_it_was():
    """Set MODELSMITH_WRITE_GOLDEN=1 to write it anew, and look at it."""
    text = history_chart(whole())
    if os.environ.get("MODELSMITH_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert history_chart(type(whole()).model_validate_json(whole().model_dump_json())) == text


def test_the_picture_says_in_words_what_it_shows():
    root = ET.fromstring(history_chart(whole()))
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert any("composite 0.860, interval 0.800 to 0.920" in title and "rolled-back" in title for title in titles)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "10%" in texts
    assert any("not comparable" in text for text in texts)
    assert {"pass", "fail", "question 1", "question 2"} <= set(texts)


def test_of_many_runs_the_latest_are_drawn_and_it_is_said():
    texts = [text.text for text in ET.fromstring(history_chart(LONG)).iter(f"{SVG}text")]
    assert any("30 runs, the latest 20 shown" in text for text in texts)
    assert "The question changed 6 more times before." in texts
    assert "029" in texts
    assert "009" not in texts
