from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evidence.bundle import Governing, Run, build, coverage, evidence_bytes, recompute
from modelsmith.promotion.rule import effective_rule, expected_rows
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure, InvalidInput
from modelsmith.schema.evidence import Evidence, Since
from modelsmith.schema.run import Observation, RunResult, VerdictRow

TREE = WorkTree(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def governed():
    return load_eval_set(TREE, "adtech/rtb-root-cause")


def through_json(evidence: Evidence) -> Evidence:
    return Evidence.model_validate_json(canonical_json(evidence))


def change(evidence: Evidence, path: str, value) -> Evidence:
    data = json.loads(canonical_json(evidence))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inside = data
    for step in steps:
        inside = inside[step]
    inside[last] = value
    return Evidence.model_validate_json(json.dumps(data))


def test_honest_evidence_recomputes_after_its_way_through_json(evidence, small):
    for some_evidence in (evidence, small):
        recompute(through_json(some_evidence))
        assert canonical_json(through_json(some_evidence)) == canonical_json(some_evidence)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("candidate.headline.composite.value", 0.95),
        ("candidate.headline.composite.low", 0.9),
        ("candidate.headline.held_out.value", 0.99),
        ("candidate.headline.verdict", "PASS"),
        ("candidate.headline.compared", 1),
        ("candidate.headline.regressions", []),
        ("candidate.headline.per_rubric.1.passed", 400),
        ("candidate.headline.per_capability.0.passed", 10),
        ("candidate.headline.checks.0.sentence", "all is well"),
        ("candidate.headline.difference", None),
        ("incumbent.headline.composite.value", 0.01),
        ("incumbent.headline.held_out.high", 0.02),
        ("baselines.0.headline.composite.value", 0.01),
        ("rule.thresholds.composite", 0.1),
        ("rule.points.0.weight", 9.0),
        ("coverage.0.counts.bid-shading", 40),
        ("artifact", digest("another")),
        ("training.reward", digest("another")),
    ],
)
def test_one_changed_figure_is_found(small, path, value):
    with pytest.raises(IntegrityFailure) as refused:
        recompute(change(small, path, value))
    assert refused.value.code == "evidence-does-not-recompute"
    assert refused.value.details["stated"] != refused.value.details["recomputed"]


def test_the_changed_figure_is_named_with_both_values(small):
    with pytest.raises(IntegrityFailure) as refused:
        recompute(change(small, "candidate.headline.held_out.value", 0.123))
    assert refused.value.details == {
        "field": "candidate.headline.held_out.value",
        "stated": 0.123,
        "recomputed": small.candidate.headline.held_out.value,
    }


def test_the_last_digit_of_another_machine_is_forgiven_and_more_is_not(small):
    value = small.candidate.headline.composite.value
    recompute(change(small, "candidate.headline.composite.value", value * (1 + 5e-13)))
    with pytest.raises(IntegrityFailure):
        recompute(change(small, "candidate.headline.composite.value", value * (1 + 1e-9)))


@pytest.mark.parametrize("who", ["candidate", "incumbent", "baselines.0"])
def test_any_flipped_verdict_is_found_or_changes_no_figure(small, who):
    """Every single bit of every row."""
    data = json.loads(canonical_json(small))
    run = data["baselines"][0] if who == "baselines.0" else data[who]
    for row in run["rows"]:
        for point, passed in list(row["points"].items()):
            row["points"][point] = not passed
            flipped = Evidence.model_validate_json(json.dumps(data))
            row["points"][point] = passed
            try:
                recompute(flipped)
            except IntegrityFailure:
                continue
            rows = {r.model: r for r in (flipped.candidate, flipped.incumbent, *flipped.baselines)}
            again = headline(rows[flipped.candidate.model].rows, flipped.incumbent.rows, small.rule)
            assert again == small.candidate.headline
            for model, stated in ((small.incumbent.model, small.incumbent), ("base", small.baselines[0])):
                assert headline(rows[model].rows, None, small.rule) == stated.headline


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_removing_doubling_or_relabelling_a_row_is_found(small, data):
    raw = json.loads(canonical_json(small))
    run = data.draw(st.sampled_from([raw["candidate"], raw["incumbent"], raw["baselines"][0]]))
    index = data.draw(st.integers(0, len(run["rows"]) - 1))
    match data.draw(st.sampled_from(["remove", "double", "rename", "critical", "capability", "scenario"])):
        case "remove":
            del run["rows"][index]
        case "double":
            run["rows"].append(run["rows"][index])
        case "rename":
            run["rows"][index]["id"] = "another"
        case "critical":
            run["rows"][index]["critical"] = not run["rows"][index]["critical"]
        case "capability":
            run["rows"][index]["capability"] = "another"
        case "scenario":
            run["rows"][index]["scenario"] = digest("another")
    with pytest.raises((IntegrityFailure, InvalidInput)):
        recompute(Evidence.model_validate_json(json.dumps(raw)))


def test_the_order_of_rows_changes_nothing(small):
    data = json.loads(canonical_json(small))
    data["candidate"]["rows"].reverse()
    recompute(Evidence.model_validate_json(json.dumps(data)))


def rows_for(governed, right) -> tuple[VerdictRow, ...]:
    return tuple(
        VerdictRow(
            section=section,
            scenario=scenario,
            id=name,
            capability=capability,
            critical=critical,
            wording=wording,
            repeat=repeat,
            points={p.id: right(name) for p in governed.rubric.points},
        )
        for (section, scenario, wording, repeat), (name, capability, critical) in expected_rows(governed).items()
    )


def governing(governed) -> Governing:
    cluster = load_cluster(TREE, "rtb-pricing")
    version, rule = governed.evalset.version, effective_rule(governed, cluster)
    return Governing(
        governed, cluster, "b" * 40, Since(question=governed.question(), eval_set_version=version, rule=rule)
    )


def run_of(governed, template: Evidence, model: str, rows, **other) -> Run:
    shape = template.candidate
    result = RunResult(
        run_id=digest(model),
        tag=f"{model}-tag",
        cluster="rtb-pricing",
        model=model,
        weights=digest(["weights", model]),
        question=governed.question(),
        rubric=governed.rubric_digest,
        eval_set="adtech/rtb-root-cause",
        eval_set_version=governed.evalset.version,
        eval_tree="b" * 40,
        engine=template.engine,
        rule=effective_rule(governed, load_cluster(TREE, "rtb-pricing")),
        headline=shape.headline,
        incumbent=None,
        cost=shape.cost,
        sections=("core", "robustness", "micro", "held_out"),
        quick=False,
        attempts=2,
        scenarios=138,
        executed=0,
        started_at=datetime(2026, 4, 18, tzinfo=UTC),
        duration_seconds=1.0,
    )
    return Run(result.model_copy(update=other), rows)


@pytest.fixture(scope="module")
def built(governed, small):
    candidate = run_of(governed, small, "iter-002-aaaaaaaa", rows_for(governed, lambda name: not name.endswith("7")))
    incumbent = run_of(governed, small, "iter-001-bbbbbbbb", rows_for(governed, lambda name: name.endswith(("1", "2"))))
    base = run_of(governed, small, "base", rows_for(governed, lambda name: False))
    training = small.training.model_copy(update={"reward": governed.rubric_digest})
    return build(
        governing(governed), "iter-002-aaaaaaaa", candidate, incumbent, [base], training, 0.77, {"torch": "2.13.0"}
    )


def test_evidence_built_from_runs_recomputes_and_ignores_their_headlines(built, small):
    recompute(through_json(built))
    assert built.candidate.headline != small.candidate.headline
    assert built.artifact == built.candidate.weights
    assert built.attempts == 2
    assert [run.model for run in built.baselines] == ["base"]


def test_coverage_counts_each_governed_section(built, governed):
    assert built.coverage == coverage(governed)
    counts = {(part.section, part.dimension): part.counts for part in built.coverage}
    assert counts["core", "capability"]["bid-shading"] == 10
    assert counts["held_out", "risk"] == dict(Counter(s.risk for s in governed.held_out))
    assert all(sum(c.values()) == len(getattr(governed, section)) for (section, _), c in counts.items())


def test_evidence_holds_no_text_of_any_scenario(built, governed):
    data = evidence_bytes(built).decode()
    for scenario in (*governed.core, *governed.micro, *governed.held_out):
        assert all(wording[-1].content not in data for wording in scenario.wordings())


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"quick": True}, "quick-run"),
        ({"eval_set_version": "9.9.9"}, "runs-differ"),
        ({"rubric": digest("another")}, "runs-differ"),
    ],
)
def test_runs_of_another_question_or_a_quick_look_make_no_evidence(governed, small, other, code):
    rows = rows_for(governed, lambda name: True)
    candidate = run_of(governed, small, "iter-002-aaaaaaaa", rows)
    with pytest.raises(InvalidInput) as refused:
        build(governing(governed), "iter-002-aaaaaaaa", candidate, run_of(governed, small, "base", rows, **other), [],
              small.training, 0.5, {})  # fmt: skip
    assert refused.value.code == code


def test_an_incumbent_that_was_asked_less_makes_no_evidence(governed, small):
    rows = rows_for(governed, lambda name: True)
    candidate = run_of(governed, small, "iter-002-aaaaaaaa", rows)
    with pytest.raises(IntegrityFailure) as refused:
        build(governing(governed), "iter-002-aaaaaaaa", candidate, run_of(governed, small, "base", rows[1:]), [],
              small.training, 0.5, {})  # fmt: skip
    assert refused.value.details["field"] == "incumbent.rows"


def test_an_answer_that_could_not_be_scored_blocks_and_is_no_zero(small):
    row = small.candidate.rows[0]
    fields = {"section": row.section, "id": row.id, "wording": 0, "repeat": 0, "completion": "", "finish": "error",
              "reasons": {}, "prompt_tokens": 0, "completion_tokens": 0, "seconds": 0.0}  # fmt: skip
    broken = Observation(row=None, error={"code": "judge-unavailable"}, **fields)
    with pytest.raises(GateNotCleared) as refused:
        verdict_rows([broken])
    assert refused.value.details["error"] == "judge-unavailable"
    fine = [Observation(row=r, **{**fields, "section": r.section, "id": r.id}) for r in reversed(small.candidate.rows)]
    assert verdict_rows(fine) == small.candidate.rows
