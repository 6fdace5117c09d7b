from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from judged import JUDGE_YAML, TONE_YAML

from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import validate
from modelsmith.schema.catalog import json_schemas
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import GovernedSet, label_digest, labels_digest

Edit = Callable[[str, str, str], None]
Put = Callable[[str, str | bytes | None], None]

SET = "evals/ads/diagnosis"
RUBRIC, LABELS, EVALSET = f"{SET}/rubrics/quality.yaml", f"{SET}/labels/judge.yaml", f"{SET}/evalset.yaml"
ENDPOINT = '  endpoint: {url: "https://judge.invalid/v1", model: big}\n'
GOOD = """\
- scenario: floor-1
  point: tone
  answer: The floor rose; raise the bid where it pays.
  verdict: pass
  by: maya
- scenario: floor-held-1
  point: tone
  answer: PANIC! Everything is lost!!!
  verdict: fail
"""


@pytest.fixture
def judged(repo: Path, put: Put) -> Path:
    """The small repository with a judged point, a judge and two labelled answers."""
    put(RUBRIC, (repo / RUBRIC).read_text() + TONE_YAML)
    put(EVALSET, (repo / EVALSET).read_text() + JUDGE_YAML)
    put(LABELS, GOOD)
    return repo


def load(repo: Path) -> GovernedSet:
    return load_eval_set(WorkTree(repo), "ads/diagnosis")


def problems(repo: Path) -> list[tuple[str, int | None, str, str, str]]:
    with pytest.raises(InvalidInput) as refused:
        load(repo)
    problems_found = refused.value.details["problems"]
    report = validate(WorkTree(repo)).problems
    assert [(p.file, p.line, p.field, p.message) for p in report] == [
        (p["file"], p["line"], p["field"], p["message"]) for p in problems_found
    ], "validate says what loading says"
    return [(p["file"].removeprefix(f"{SET}/"), p["line"], p["field"], p["message"], p["mend"]) for p in problems_found]


def places(repo: Path) -> list[tuple[str, int | None, str]]:
    return [problem[:3] for problem in problems(repo)]


def test_labels_are_read_with_the_set_and_validate_counts_them(judged: Path) -> None:
    assert [(label.scenario, label.point, label.verdict) for label in load(judged).labels] == [
        (label.scenario, label.point, label.verdict) for label in sorted(load(judged).labels, key=label_digest)
    ]
    assert {label.scenario for label in load(judged).labels} == {"floor-1", "floor-held-1"}
    report = validate(WorkTree(judged))
    assert (report.problems, report.kinds["labels"]) == ((), 1)


def test_editors_get_a_schema_with_the_meaning_of_each_field() -> None:
    schema = json_schemas()["labels"]
    assert schema["type"] == "array"
    assert "person" in schema["$defs"]["Label"]["properties"]["verdict"]["description"]
    assert "evals/*/*/labels/*.yaml" in schema["description"]


def test_a_mistake_in_a_label_names_its_line_field_and_mend(judged: Path, put: Put) -> None:
    put(LABELS, GOOD.replace("verdict: pass", "verdict: maybe").replace("by: maya", "buy: maya"))
    rows = problems(judged)
    assert [problem[:3] for problem in rows] == [
        ("labels/judge.yaml", 4, "[0].verdict"),
        ("labels/judge.yaml", 5, "[0].buy"),
    ]
    assert rows[1][3:] == ("there is no field 'buy'", "Did you mean 'by'?")
    put(LABELS, "- scenario: floor-1\n  point: tone\n  verdict: pass\n")
    ((_, line, field, message, mend),) = problems(judged)
    assert (line, field, message) == (1, "[0].answer", "'answer' is missing")
    assert "as a model might write it" in mend
    put(LABELS, "scenario: floor-1\n")
    assert places(judged) == [("labels/judge.yaml", 1, "")]


def test_an_answer_longer_than_a_page_is_refused(judged: Path, put: Put) -> None:
    put(LABELS, GOOD.replace("PANIC!", "PANIC! " * 600))
    assert places(judged) == [("labels/judge.yaml", 8, "[1].answer")]


def test_a_label_speaks_of_a_scenario_of_the_set_and_of_a_judged_point(judged: Path, put: Put) -> None:
    put(LABELS, GOOD.replace("scenario: floor-1\n  point: tone", "scenario: floor-9\n  point: cause"))
    first, second = problems(judged)
    assert first[1:4] == (1, "[0].scenario", "the set has no scenario 'floor-9'")
    assert second[1:] == (2, "[0].point", "no judge decides a point 'cause'", "Write one of: tone.")


def test_a_scenario_that_cannot_be_read_is_not_called_unknown(judged: Path, change: Edit) -> None:
    change(f"{SET}/scenarios/floors/floor-1.yaml", "risk: low", "risk: none")
    assert {file for file, *_ in problems(judged)} == {"scenarios/floors/floor-1.yaml"}


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_an_answer_is_labelled_once(judged: Path, put: Put, verdict: str) -> None:
    again = GOOD + GOOD.split("- scenario: floor-held-1")[0].replace("verdict: pass", f"verdict: {verdict}")
    put(LABELS, again)
    ((_, line, field, message, _),) = problems(judged)
    assert (line, field, message) == (10, "[2]", "this answer is labelled twice (first on line 1)")


def test_judged_points_need_a_judge(judged: Path, put: Put) -> None:
    put(EVALSET, (judged / EVALSET).read_text().replace(JUDGE_YAML, ""))
    assert places(judged) == [("labels/judge.yaml", None, ""), ("rubrics/quality.yaml", 15, "points[1].check.type")]
    put(LABELS, None)
    ((*_, message, mend),) = problems(judged)
    assert message == "a judge decides the point 'tone', and evalset.yaml names none"
    assert "judge:" in mend


def test_a_judge_needs_judged_points(judged: Path, put: Put) -> None:
    put(RUBRIC, (judged / RUBRIC).read_text().replace(TONE_YAML, ""))
    put(LABELS, None)
    put(EVALSET, (judged / EVALSET).read_text().replace("  labels: labels/judge.yaml\n  min_kappa: 0.6\n", ""))
    assert [problem[2:4] for problem in problems(judged)] == [("judge", "no point of the rubric is judged")]


def test_a_judge_comes_from_weights_or_from_a_server(judged: Path, put: Put) -> None:
    text = (judged / EVALSET).read_text()
    put(EVALSET, text + ENDPOINT)
    assert [p[2:4] for p in problems(judged)] == [("judge", "the judge has a base model and an endpoint")]
    put(EVALSET, "".join(line for line in text.splitlines(keepends=True) if "base_model" not in line))
    assert [p[2:4] for p in problems(judged)] == [("judge", "nothing says where the judge comes from")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("labels/other.yaml", f"there is no file {SET}/labels/other.yaml"),
        ("judge.yaml", "the path is no labels file of this set"),
        ("../other/labels/judge.yaml", "the path is no labels file of this set"),
        ("/labels/judge.yaml", "the path is no labels file of this set"),
        ("../../../.github/CODEOWNERS", "the path is no labels file of this set"),
        ("rubrics/quality.yaml", "the path is no labels file of this set"),
    ],
)
def test_labels_lie_in_the_set(judged: Path, change: Edit, put: Put, path: str, message: str) -> None:
    change(EVALSET, "labels: labels/judge.yaml", f"labels: {path}")
    put(LABELS, None)
    put("evals/ads/other/labels/judge.yaml", GOOD) if "other/" in path else None
    with pytest.raises(InvalidInput) as refused:
        load(judged)
    ((field, text),) = {(p["field"], p["message"]) for p in refused.value.details["problems"]}
    assert (field, text) == ("judge.labels", message)


def test_agreement_needs_labels_to_agree_with(judged: Path, change: Edit, put: Put) -> None:
    change(EVALSET, "  labels: labels/judge.yaml\n", "")
    put(LABELS, None)
    assert [problem[2] for problem in problems(judged)] == ["judge.min_kappa"]


def test_labels_that_nobody_names_are_pointed_out(judged: Path, put: Put) -> None:
    put(f"{SET}/labels/old.yaml", GOOD)
    assert [problem[0] for problem in problems(judged)] == ["labels/old.yaml"]


def test_judge_and_labels_are_part_of_the_question(judged: Path, change: Edit) -> None:
    def question() -> tuple[str, str]:
        digests = load(judged).question()
        return digests.core, digests.held_out

    questions = [question()]
    for path, old, new in (
        (EVALSET, "name: small", "name: smaller"),
        (EVALSET, "1" * 64, "2" * 64),
        (EVALSET, "min_kappa: 0.6", "min_kappa: 0.6\n  max_new_tokens: 99"),
        (LABELS, "verdict: pass", "verdict: fail"),
        (LABELS, "Everything is lost", "Nothing is lost"),
    ):
        change(path, old, new)
        questions.append(question())
    assert len({core for core, _ in questions}) == len({held_out for _, held_out in questions}) == len(questions)
    change(LABELS, "by: maya", "by: leo")
    change(EVALSET, "min_kappa: 0.6", "min_kappa: 0.7")
    change(EVALSET, "file://judge", "file://elsewhere")
    assert question() == questions[-1]


def test_a_servers_address_is_no_part_of_the_question(judged: Path, put: Put, change: Edit) -> None:
    text = (judged / EVALSET).read_text()
    put(EVALSET, "".join(line for line in text.splitlines(keepends=True) if "base_model" not in line) + ENDPOINT)
    before = load(judged).question()
    change(EVALSET, "judge.invalid", "mirror.invalid")
    assert load(judged).question() == before
    change(EVALSET, "model: big", "model: bigger")
    assert load(judged).question() != before


def test_the_words_that_a_judge_is_shown_are_part_of_the_question(judged: Path, change: Edit) -> None:
    floor = f"{SET}/scenarios/floors/floor-1.yaml"
    before = load(judged).question()
    change(floor, "Names the cause.", "Names the true cause.")
    assert load(judged).question() == before, "no judge reads the criteria of a declared point"
    change(floor, "criteria:\n", "criteria:\n  - {point: tone, pass: Calm., fail: Loud.}\n")
    after = load(judged).question()
    assert after.core != before.core
    assert after.held_out == before.held_out


def test_a_set_without_a_judge_keeps_its_identity() -> None:
    governed = load_eval_set(WorkTree(Path(__file__).parents[2]), "adtech/rtb-root-cause")
    assert governed.question().core == "sha256:0e51599f31fb9338f0837ed5ba11a3a5d72e360b9c771e608856a8720969f9e1"
    assert governed.question().held_out == "sha256:668a41d451b9795598dce212e5a9b356234305362364fcd1487628a866f2401b"
    assert governed.rubric_digest == "sha256:b2fcf544f7f360d101ebaee9e66a9b12705bd0ad051ac4b602407cce15fd1d3f"
    assert governed.labels == ()


def test_the_order_of_labels_changes_nothing(judged: Path, put: Put) -> None:
    before = load(judged)
    first, second = GOOD.split("- scenario: floor-held-1")
    put(LABELS, f"- scenario: floor-held-1{second}{first}")
    after = load(judged)
    assert after.labels == before.labels
    assert after.question() == before.question()
    assert labels_digest(map(label_digest, after.labels)) == labels_digest(map(label_digest, before.labels[::-1]))
