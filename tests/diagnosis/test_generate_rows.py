from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.diagnosis.failures import failure_clusters
from modelsmith.diagnosis.generate import generate_prompts, generate_rows, plain
from modelsmith.evaluation.scoring import reward
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.generator import Generator, Template
from modelsmith.schema.training_row import PreferencePair, TrainingRow
from modelsmith.training.rows import ROW_OF, read_rows, rows_digest, write_rows


@pytest.fixture(scope="module")
def all_fail(governed, observe):
    return failure_clusters(governed, observe(lambda *_: "no idea"))


@pytest.fixture(scope="module")
def shading_fails(governed, observe, right):
    wrong = json.dumps({"cause": "pacing", "action": "reset_pacing_curve"})
    return failure_clusters(governed, observe(lambda s, *_: wrong if s.capability == "bid-shading" else right(s)))


def test_no_failures_make_no_rows(governed):
    assert generate_rows(governed, (), 480, 17) == ()


def test_the_same_inputs_make_the_same_rows_and_another_seed_makes_others(governed, all_fail):
    rows = generate_rows(governed, all_fail, 120, 17)
    assert rows == generate_rows(governed, all_fail, 120, 17)
    assert rows != generate_rows(governed, all_fail, 120, 18)
    assert len({row.messages[0].content for row in rows}) == 120


def test_when_everything_fails_every_generator_has_an_equal_share(governed, all_fail):
    counts = Counter(row.generator for row in generate_rows(governed, all_fail, 480, 17))
    assert set(counts.values()) == {80}


def test_what_failed_gets_three_times_the_rows_and_the_rest_is_replayed(governed, shading_fails):
    counts = Counter(row.generator for row in generate_rows(governed, shading_fails, 480, 17))
    assert counts.pop("bid-shading") == 180
    assert set(counts.values()) == {60}


def test_templates_are_used_evenly(governed, all_fail):
    rows = generate_rows(governed, all_fail, 480, 17)
    counts = Counter((row.generator, row.template) for row in rows)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_answer_is_worth_full_marks(governed, all_fail):
    references = {generator.id: generator.reference for generator in governed.generators}
    for row in generate_rows(governed, all_fail, 60, 17):
        assert reward(governed.rubric, references[row.generator], row.answer) == 1.0
        assert row.answer == json.dumps(references[row.generator])
        assert "{" not in row.messages[0].content


def test_a_generator_that_teaches_a_wrong_form_is_named(governed, all_fail):
    spoiled = governed.generators[0].model_copy(update={"reference": {"cause": "timeout", "action": "x", "more": 1}})
    with pytest.raises(InvalidInput) as refused:
        generate_rows(replace(governed, generators=(spoiled,)), all_fail, 10, 17)
    assert refused.value.code == "generator-answer"
    assert refused.value.details["generator"] == spoiled.id


def test_a_generator_short_of_different_rows_says_how_many_it_can_make(governed, all_fail):
    small = governed.generators[0].model_copy(
        update={"slots": {"a": ("x", "y")}, "templates": (Template(id="only", user="{a} and {a}"),)}
    )
    with pytest.raises(InvalidInput) as refused:
        generate_rows(replace(governed, generators=(small,)), all_fail, 3, 17)
    assert refused.value.code == "generator-exhausted"
    assert refused.value.details["possible"] == 2


def test_failures_that_no_generator_teaches_are_an_error(governed, shading_fails):
    others = tuple(g for g in governed.generators if g.capability != "bid-shading")
    with pytest.raises(InvalidInput) as refused:
        generate_rows(replace(governed, generators=others), shading_fails, 10, 17)
    assert refused.value.code == "no-generator"


def test_slot_values_are_data_and_are_never_filled_or_formatted_again(governed, all_fail):
    odd = governed.generators[0].model_copy(
        update={
            "slots": {"a": ("{b}", "{a.__class__}", "%s", "\\1", "{0}"), "b": ("one", "two")},
            "templates": (Template(id="only", user="{a} then {b} then { c }"),),
        }
    )
    texts = {r.messages[0].content for r in generate_rows(replace(governed, generators=(odd,)), all_fail, 10, 17)}
    assert "{b} then one then { c }" in texts
    assert "{a.__class__} then two then { c }" in texts
    assert "\\1 then one then { c }" in texts


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(), sizes=st.lists(st.integers(2, 5), min_size=1, max_size=3))
def test_rows_are_as_many_as_asked_and_all_different(governed, all_fail, count, seed, sizes):
    slots = {f"s{i}": tuple(f"v{i}.{j}" for j in range(size)) for i, size in enumerate(sizes)}
    text = " ".join(f"{{s{i}}}" for i in range(len(sizes)))
    possible = 2
    for size in sizes:
        possible *= size
    generator: Generator = governed.generators[0].model_copy(
        update={"slots": slots, "templates": (Template(id="a", user=text), Template(id="b", user="b: " + text))}
    )
    small = replace(governed, generators=(generator,))
    if count > possible:
        with pytest.raises(InvalidInput):
            generate_rows(small, all_fail, count, seed)
    else:
        rows = generate_rows(small, all_fail, count, seed)
        assert len({row.messages[0].content for row in rows}) == len(rows) == count


def test_rows_come_back_from_disk_as_they_were(governed, all_fail, tmp_path):
    rows = generate_rows(governed, all_fail, 20, 17)
    path = tmp_path / "rows.jsonl"
    write_rows(path, rows)
    assert read_rows(path, TrainingRow) == rows
    import hashlib

    assert rows_digest(rows) == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert rows_digest(rows[::-1]) != rows_digest(rows)


def test_a_spoiled_line_of_rows_is_named(governed, all_fail, tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, generate_rows(governed, all_fail, 2, 17))
    path.write_bytes(path.read_bytes() + b'{"messages": []}\n')
    with pytest.raises(InvalidInput) as refused:
        read_rows(path, TrainingRow)
    assert refused.value.details["line"] == 3


def test_a_generator_teaches_as_many_answers_as_its_slots_have_values(governed, all_fail):
    """Each row's answer says what its note says, in the type of the slot's value."""
    rubric = governed.rubric.model_copy(update={"points": ()})
    late = governed.generators[0].model_copy(
        update={
            "reference": {
                "cause": "timeout",
                "late_by": "{ms}",
                "say": "{who}: {ms} ms late",
                "more": [{"by": "{who}"}],
            },
            "slots": {"ms": (20, 30), "who": ("OpenX", "Xandr")},
            "templates": (Template(id="only", user="{who} is {ms} ms late"),),
        }
    )
    made_rows = generate_rows(replace(governed, rubric=rubric, generators=(late,)), all_fail, 4, 17)
    assert {row.messages[0].content: json.loads(row.answer) for row in made_rows} == {
        f"{bidder} is {ms} ms late": {
            "cause": "timeout",
            "late_by": ms,
            "say": f"{bidder}: {ms} ms late",
            "more": [{"by": bidder}],
        }
        for bidder in ("OpenX", "Xandr")
        for ms in (20, 30)
    }
    spoken = late.model_copy(update={"answer": "Call {who}: {ms} ms too late, {unknown}."})
    rows = generate_rows(replace(governed, rubric=rubric, generators=(spoken,)), all_fail, 4, 17)
    assert {row.answer for row in rows} >= {"Call OpenX: 20 ms too late, {unknown}."}


def test_every_filled_answer_is_held_against_the_rubric(governed, all_fail):
    wrong = governed.generators[0].model_copy(
        update={
            "reference": {"cause": "{cause}", "action": "x", "more": "{late}"},
            "slots": {"cause": ("timeout", "pacing"), "late": ("a", "b")},
            "templates": (Template(id="only", user="{cause} {late}"),),
        }
    )
    with pytest.raises(InvalidInput) as refused:
        generate_rows(replace(governed, generators=(wrong,)), all_fail, 4, 17)
    assert refused.value.code == "generator-answer"


def test_a_prompt_is_a_training_row_that_the_rubric_can_score(governed, all_fail):
    prompts = generate_prompts(governed, all_fail, 60, 17)
    assert tuple(plain(prompt) for prompt in prompts) == generate_rows(governed, all_fail, 60, 17)
    for prompt in prompts:
        assert prompt.rubric == governed.rubric_digest
        assert reward(governed.rubric, prompt.expected, prompt.answer) == 1.0
        assert reward(governed.rubric, prompt.expected, "no idea") < 1.0


def test_rows_of_each_method_come_back_as_they_were_written(governed, all_fail, tmp_path):
    prompt = generate_prompts(governed, all_fail, 1, 17)[0]
    pair = PreferencePair(
        messages=prompt.messages, chosen=prompt.answer, rejected="", source="generator", points=("cause",),
        rubric=prompt.rubric,
    )  # fmt: skip
    for method, row in (("sft", plain(prompt)), ("dpo", pair), ("grpo", prompt)):
        write_rows(tmp_path / method, [row])
        assert read_rows(tmp_path / method, ROW_OF[method]) == (row,)
        others = [kind for kind in ROW_OF.values() if kind is not ROW_OF[method]]
        for other in others:
            with pytest.raises(InvalidInput, match="Line 1"):
                read_rows(tmp_path / method, other)
