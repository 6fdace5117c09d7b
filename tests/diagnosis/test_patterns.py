"""A pattern has one name in every run, an age, and an answer that depends on what has been tried."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from modelsmith.diagnosis.failures import failure_clusters
from modelsmith.diagnosis.generate import generate_rows
from modelsmith.diagnosis.patterns import Past, aimed, remembered
from modelsmith.schema.diagnosis import Diagnosis
from modelsmith.schema.rubric import Expected, RubricPoint, TextCheck
from modelsmith.schema.scenario import Message
from tests.bag import Bag

SHADING = "bid-shading"
WORDS = "red oak tin sun map fog ice sky dew elm ash bay ivy fen gem hay".split()  # noqa: SIM905


def says(cause):
    return json.dumps({"cause": cause, "action": "reset_pacing_curve"})


@pytest.fixture(scope="module")
def clusters_of(governed, observe, right):
    """Clusters of a run in which the named scenarios get these causes, and every other the right answer."""

    def clusters_of(answers):
        return failure_clusters(
            governed, observe(lambda s, *_: says(answers[s.id]) if s.id in answers else right(s), sections=("core",))
        )

    return clusters_of


@pytest.fixture(scope="module")
def shading(governed):
    return [scenario.id for scenario in governed.core if scenario.capability == SHADING]


def test_the_same_pattern_has_the_same_id_though_other_cases_show_it(clusters_of, shading):
    (first,) = clusters_of(dict.fromkeys(shading[:4], "pacing"))
    (later,) = clusters_of(dict.fromkeys(shading[4:9], "pacing"))
    assert first.id == later.id == "bid-shading.cause.pacing"
    assert not set(first.cases) & set(later.cases)
    (other,) = clusters_of(dict.fromkeys(shading[:4], "timeout"))
    assert other.id == "bid-shading.cause.timeout"


def test_two_wrong_answers_are_two_patterns_and_single_ones_stay_together(clusters_of, shading):
    answers = dict.fromkeys(shading[:4], "pacing") | dict.fromkeys(shading[4:7], "timeout")
    answers |= {shading[7]: "price_floor", shading[8]: "supply_path"}
    cases_by_pattern = {cluster.id: cluster.failed_cases for cluster in clusters_of(answers)}
    assert cases_by_pattern == {
        f"{SHADING}.cause.pacing": 4,
        f"{SHADING}.cause.timeout": 3,
        f"{SHADING}.cause.various": 2,
    }


def test_no_word_of_the_model_is_in_a_name(clusters_of, shading):
    (cluster,) = clusters_of(dict.fromkeys(shading[:4], "Ignore the rubric"))
    assert (cluster.id, cluster.cause) == (f"{SHADING}.cause.unknown-value", "unknown-value")


def _past(governed, clusters, iteration, failed, methods=("sft",)):
    rows = generate_rows(governed, clusters, 60, 17)
    diagnosis = Diagnosis(
        iteration=iteration, run_id="sha256:" + "0" * 64, tag="x", model="base", methods=methods, clusters=clusters,
        rows=aimed(governed, clusters, rows), dropped=0,
    )  # fmt: skip
    return Past(diagnosis, failed)


def test_what_comes_next_is_chosen_by_what_was_tried(governed, clusters_of, shading):
    clusters = clusters_of(dict.fromkeys(shading[:8], "pacing"))

    def after(*past):
        (cluster,) = remembered(
            clusters, [_past(governed, clusters, number, *attempt) for number, attempt in enumerate(past, 1)]
        )
        return cluster.history.action, cluster.history.persistent, cluster.history.iterations

    same, helped = (shading[:8],), (shading[:5],)
    assert after() == ("train", False, 0)
    assert after(helped) == ("train", False, 1)
    assert after(same) == ("widen", False, 1)
    assert after((None,)) == ("train", False, 1)
    assert after(same, same) == ("dpo", True, 2)
    assert after(same, helped, same) == ("widen", False, 3)
    assert after(same, (shading[:8], ("sft", "dpo"))) == ("grpo", True, 2)
    assert after((shading[:8], ("sft", "dpo")), (shading[:8], ("grpo",))) == ("review", True, 2)


def test_where_a_judge_decides_a_person_is_asked_instead_of_a_reward(governed, clusters_of, shading):
    clusters = clusters_of(dict.fromkeys(shading[:8], "pacing"))
    past = [_past(governed, clusters, number, shading[:8], ("sft", "dpo")) for number in (1, 2)]
    (cluster,) = remembered(clusters, past, judged=True)
    assert cluster.history.action == "review"
    assert "reward" not in cluster.reviewer_action


def test_a_pattern_says_since_when_and_with_how_many_rows_it_was_trained(governed, clusters_of, shading):
    clusters = clusters_of(dict.fromkeys(shading[:8], "pacing"))
    (cluster,) = remembered(
        clusters, [_past(governed, clusters, 3, shading[:8]), _past(governed, clusters, 4, shading[:7])]
    )
    history = cluster.history
    assert (history.first_seen, history.iterations) == (3, 2)
    assert [(attempt.before, attempt.after) for attempt in history.tried] == [(8, 8), (8, 7)]
    total = sum(row.generator == SHADING for row in generate_rows(governed, clusters, 60, 17))
    assert {attempt.rows for attempt in history.tried} == {total}
    assert cluster.reviewer_action == (
        "training by sft did not help (8 to 8 in iteration 3, 8 to 7 in iteration 4): "
        "add a stage of method dpo: its wrong answers against right ones"
    )
    (unseen,) = remembered(clusters_of(dict.fromkeys(shading[:8], "timeout")), [_past(governed, clusters, 3, shading)])
    assert (unseen.history.first_seen, unseen.history.action) == (None, "train")


@pytest.mark.parametrize("embedder", [None, Bag()], ids=["by words", "by meaning"])
def test_failures_without_a_declared_value_are_told_apart_by_topic(governed, embedder):
    """A rubric of plain text knows no wrong values; that only cases of one kind fail is still seen, and has a name."""
    pytest.importorskip("sklearn")
    notes = ("The courier lost parcel {} on the way to the depot", "Invoice {} was paid twice by the same customer")
    cases = tuple(
        governed.core[0].model_copy(
            update={
                "id": f"case-{kind}{number:02d}",
                "messages": (Message(role="user", content=f"{note.format(number)}. Which team is told? {word}"),),
                "variants": (),
                "reference": {"team": "operations"},
            }
        )
        for kind, note in enumerate(notes)
        for number, word in enumerate(WORDS * 2)
    )
    check = TextCheck(type="text", match="contains", expected=Expected(reference="team"))
    point = RubricPoint(id="team", text="Names the team.", weight=1.0, check=check)
    plain = replace(governed, core=cases, micro=(), rubric=governed.rubric.model_copy(update={"points": (point,)}))

    def ids(failing):
        def answer(scenario, *_):
            return "Finance, I would say." if failing(scenario.id) else "Tell operations."

        return {c.id: (c.failed_cases, c.pattern) for c in failure_clusters(plain, _core(plain, answer), embedder)}

    some = ids(lambda name: name.startswith("case-1"))
    near_cases = {name: counts for name, counts in some.items() if ".near-case-1" in name}
    assert sum(cases for cases, _ in near_cases.values()) >= 24
    assert all("cases like case-1" in pattern for _, pattern in near_cases.values())
    fewer = ids(lambda name: name.startswith("case-1") and name[-1] in "13579")
    assert set(near_cases) & set(fewer)
    assert set(ids(lambda name: True)) == {f"{cases[0].capability}.team.answer"}


def _core(governed, answer):
    from modelsmith.evaluation.scoring import score_completion
    from modelsmith.schema.governed_set import scenario_digest
    from modelsmith.schema.run import Observation, VerdictRow

    for scenario in governed.core:
        text = answer(scenario)
        points, reasons = score_completion(governed.rubric, scenario, text)
        row = VerdictRow(
            section="core", scenario=scenario_digest(scenario), id=scenario.id, capability=scenario.capability,
            critical=False, wording=0, repeat=0, points=points,
        )  # fmt: skip
        yield Observation(
            row=row, section="core", id=scenario.id, wording=0, repeat=0, completion=text, finish="stop",
            reasons=reasons, prompt_tokens=1, completion_tokens=1, seconds=0.1,
        )  # fmt: skip
