"""A set that nobody could pass is refused before anybody is asked; what is only odd is said and refuses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from judged import JUDGE_YAML, TONE_YAML

from modelsmith.points.tokens import tokens
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import validate
from modelsmith.schema.training import Method
from modelsmith.training.worker import METHODS

Edit = Callable[[str, str, str], None]
Put = Callable[[str, str | bytes | None], None]

SET = "evals/ads/diagnosis"
EVALSET, RUBRIC = f"{SET}/evalset.yaml", f"{SET}/rubrics/quality.yaml"
CORE, HELD_OUT = f"{SET}/scenarios/floors/floor-1.yaml", f"{SET}/held_out/floors/floor-held-1.yaml"
GENERATOR, CLUSTER = f"{SET}/generators/floors.yaml", "clusters/pricing/cluster.yaml"
SCHEMA = """\
  - id: form
    text: The answer is one object with a known cause.
    weight: 1
    check:
      type: json_schema
      schema: {type: object, required: [cause], properties: {cause: {enum: [floor, timeout]}}}
"""


def never(repo: Path) -> list[tuple[str, int | None, str]]:
    report = validate(WorkTree(repo))
    assert all(problem.message and problem.mend for problem in report.problems)
    return [(problem.file, problem.line, problem.field) for problem in report.problems]


@pytest.mark.parametrize(
    ("path", "old", "new", "found", "words"),
    [
        (CORE, "cause: floor", "cause: flor", (CORE, 10, "reference.cause"), "'flor' is not one of"),
        (CORE, "cause: floor", "cause: 7", (CORE, 10, "reference.cause"), "7 is not one of"),
        (GENERATOR, "cause: floor", "cause: flor", (GENERATOR, 5, "reference.cause"), "'flor' is not one of"),
        (RUBRIC, "path: cause", "path: casue", (RUBRIC, 9, "points[0].check"), "has no field 'casue'"),
        (RUBRIC, "[cause]", "[csuse]", (RUBRIC, 16, "points[1].check"), "'csuse' is a required property"),
        (RUBRIC, "required: [", "requird: [", (RUBRIC, 17, "points[1].check.schema"), "did you mean 'required'"),
        (EVALSET, "max_new_tokens: 16", "max_new_tokens: 4", (EVALSET, 8, "sampling.max_new_tokens"), "at least 5"),
        (EVALSET, "min_scenarios: 1", "min_scenarios: 2", (EVALSET, 11, "decision.min_scenarios"), "there are 1 and 1"),
        (EVALSET, "{min_scenarios: 1}", "{min_scenarios: 1, capability_floors: {flors: 0.9}}",
         (EVALSET, 11, "decision.capability_floors.flors"), "no scenario has the capability 'flors'"),
        (
            CLUSTER, "training:\n  seed: 3\n  lora: {alpha: 64}", "training:\n- lora: {alpha: 64}\n- lora: {alpha: 32}",
            (CLUSTER, 14, "training[1].lora"), "share one adapter",
        ),
        (CLUSTER, "seed: 3", "beta: 0.1", (CLUSTER, 13, "training.beta"), "there is no field"),
        (CLUSTER, "owner:", "devices: 3\nowner:", (CLUSTER, 3, "devices"), "cannot be shared evenly by 3 devices"),
        (
            CLUSTER, "training:\n  seed: 3", "devices: 2\ntraining:\n  method: grpo\n  sampler: vllm",
            (CLUSTER, 12, "devices"), "one device only",
        ),
        ("clusters/defaults.yaml", "[local]", "[]", ("clusters/defaults.yaml", 1, "hosts"), "no host to train on"),
    ],
)  # fmt: skip
def test_what_no_model_can_pass_is_a_mistake_named_where_it_stands(
    repo: Path, put: Put, change: Edit, path: str, old: str, new: str, found: tuple[str, int, str], words: str
) -> None:
    put(RUBRIC, (repo / RUBRIC).read_text() + SCHEMA)
    assert never(repo) == []
    change(path, old, new)
    assert never(repo) == [found], "one cause, one line"
    assert words in validate(WorkTree(repo)).problems[0].message


def test_a_set_without_held_out_or_with_labels_of_one_kind_can_never_pass(repo: Path, put: Put) -> None:
    put(RUBRIC, (repo / RUBRIC).read_text() + TONE_YAML)
    put(EVALSET, (repo / EVALSET).read_text() + JUDGE_YAML)
    label = "- {scenario: floor-1, point: tone, answer: Calm., verdict: pass}\n"
    put(f"{SET}/labels/judge.yaml", label)
    assert never(repo) == [(EVALSET, 16, "judge.min_kappa")]
    put(f"{SET}/labels/judge.yaml", label + "- {scenario: floor-1, point: tone, answer: PANIC!, verdict: fail}\n")
    put(HELD_OUT, None)
    assert never(repo) == [(EVALSET, 1, "")]
    assert load_eval_set(WorkTree(repo), "ads/diagnosis").held_out == (), "an unfinished set can be looked at"


def test_what_is_only_odd_refuses_nothing(repo: Path, put: Put, change: Edit) -> None:
    change(EVALSET, "max_new_tokens: 16", "max_new_tokens: 5")
    change(CORE, "Publishers in Spain", f"Publishers in Spain {'and in Portugal ' * 2500}")
    put(GENERATOR, None)
    change(RUBRIC, "    weight: 1\n", "    weight: 1\n    required: false\n")
    put(RUBRIC, (repo / RUBRIC).read_text() + SCHEMA.replace("timeout", "lowestpriceofaseller"))
    change(RUBRIC, "path: cause", "path: why")
    change(CORE, "cause: floor", "cause: lowestpriceofaseller")
    report = validate(WorkTree(repo))
    assert report.problems == ()
    assert [(warning.file, warning.line, warning.field) for warning in report.warnings] == [
        (EVALSET, 1, ""),
        (EVALSET, 8, "sampling.max_new_tokens"),
        (RUBRIC, 10, "points[0].check"),
        (CORE, 7, "messages"),
    ]
    assert [warning.file for warning in validate(WorkTree(repo), [CORE]).warnings] == [CORE]


def test_a_word_that_no_generator_ever_answers_is_odd(repo: Path, put: Put, change: Edit) -> None:
    put(RUBRIC, (repo / RUBRIC).read_text() + SCHEMA)
    assert validate(WorkTree(repo)).warnings == ()
    change(HELD_OUT, "cause: floor", "cause: timeout")
    (odd,) = validate(WorkTree(repo)).warnings
    assert (odd.file, "cause=timeout (right in 1 scenario)" in odd.message) == (EVALSET, True)
    change(GENERATOR, "cause: floor", 'cause: "{cause}"')
    assert not any("cause=timeout" in warning.message for warning in validate(WorkTree(repo)).warnings)


def test_a_gate_below_the_sets_thresholds_is_odd_since_they_hold(repo: Path, change: Edit) -> None:
    change(CLUSTER, "gate: {composite: 0.5, held_out: 0.5}", "gate: {composite: 0.4, held_out: 0.6}")
    report = validate(WorkTree(repo))
    assert report.problems == ()
    (odd,) = report.warnings
    assert (odd.file, odd.field, "0.4 changes nothing" in odd.message) == (CLUSTER, "gate.composite", True)


def test_an_answer_in_free_text_or_for_a_judge_is_not_taken_for_json(repo: Path, put: Put, change: Edit) -> None:
    check = "type: json_field\n      path: cause"
    change(RUBRIC, check, "type: text\n      match: contains")
    put(GENERATOR, None)
    assert never(repo) == []
    change(RUBRIC, "match: contains", "match: equals")
    assert never(repo) == []


def test_tokens_are_estimated_between_what_all_and_most_tokenizers_need() -> None:
    assert tokens('{"cause":"bid_shading","action":"retune_shading"}') == (13, 17)
    assert tokens("") == (0, 0)
    assert tokens("Преждевременно 2026") == (2, 7)


def test_every_method_that_a_cluster_may_name_can_be_run() -> None:
    assert set(get_args(Method)) == set(METHODS)
