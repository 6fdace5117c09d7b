from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelsmith.repository.git import Git, Ident
from modelsmith.repository.load import load_cluster, load_codeowners, load_eval_set, load_people, load_policy
from modelsmith.repository.separation import MAX_COMPARED, compared
from modelsmith.repository.tree import Revision, WorkTree
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import scenario_digest
from modelsmith.schema.training import training_digest

Edit = Callable[[str, str, str], None]
Put = Callable[[str, str | bytes | None], None]

SET = "evals/ads/diagnosis"
FLOOR = f"{SET}/scenarios/floors/floor-1.yaml"
HELD = f"{SET}/held_out/floors/floor-held-1.yaml"
RUBRIC = f"{SET}/rubrics/quality.yaml"
GENERATOR = f"{SET}/generators/floors.yaml"
CLUSTER = "clusters/pricing/cluster.yaml"


def _problems(repo: Path, name: str = "ads/diagnosis") -> list[tuple[str, int | None, str, str]]:
    with pytest.raises(InvalidInput) as refused:
        load_eval_set(WorkTree(repo), name)
    assert refused.value.code == "invalid-file"
    problems = refused.value.details["problems"]
    assert all(problem["mend"] for problem in problems)
    return [(p["file"].removeprefix(f"{SET}/"), p["line"], p["field"], p["message"]) for p in problems]


def _fields(repo: Path) -> list[tuple[str, int | None, str]]:
    return [problem[:3] for problem in _problems(repo)]


def test_a_set_is_read_alike_from_disk_and_from_a_commit(repo: Path) -> None:
    from_disk = load_eval_set(WorkTree(repo), "ads/diagnosis")
    git = Git(repo)
    git.run("add", "--all")
    when = datetime(2026, 1, 31, tzinfo=UTC)
    commit = git.commit_tree(git.text("write-tree"), [], "m", Ident("M", "m@example.org", when))
    from_commit = load_eval_set(Revision(git, commit), "ads/diagnosis")
    assert from_disk == from_commit
    assert [s.id for s in from_disk.core + from_disk.micro + from_disk.held_out] == [
        "floor-1",
        "floor-micro-1",
        "floor-held-1",
    ]
    assert from_disk.folder == SET


def test_the_question_changes_with_what_is_scored_and_with_nothing_else(repo: Path, change: Edit) -> None:
    def question() -> tuple[str, str]:
        digests = load_eval_set(WorkTree(repo), "ads/diagnosis").question()
        return digests.core, digests.held_out

    core, held_out = question()
    change(FLOOR, "risk: low", "risk: high")
    change(FLOOR, "operator_lens: trader", "operator_lens: finance")
    change(FLOOR, "outcome_type: overpay", "outcome_type: quality")
    change(FLOOR, "Names the cause.", "Names the true cause.")
    change(f"{SET}/evalset.yaml", "version: 1.0.0", "version: 1.1.0")
    change(f"{SET}/evalset.yaml", "composite: 0.5", "composite: 0.9")
    change(GENERATOR, "Teaches floors.", "Teaches floors well.")
    assert question() == (core, held_out)

    change(FLOOR, "risk: high", "risk: high\ncritical: true")
    critical, _ = question()
    assert critical != core
    assert question()[1] == held_out
    change(HELD, "twelve dollars.\nreference", "eleven dollars.\nreference")
    assert question()[0] == critical
    assert question()[1] != held_out
    before = question()
    change(RUBRIC, "weight: 1", "weight: 2")
    assert question()[0] != before[0]
    assert question()[1] != before[1]
    before = question()
    change(f"{SET}/evalset.yaml", "max_new_tokens: 16", "max_new_tokens: 17")
    assert question()[0] != before[0]
    assert question()[1] != before[1]


def test_a_scenario_keeps_its_digest_when_its_file_is_formatted_otherwise(repo: Path, put: Put) -> None:
    before = load_eval_set(WorkTree(repo), "ads/diagnosis")
    data = read_yaml(FLOOR, (repo / FLOOR).read_bytes()).data
    put(FLOOR, None)
    put(f"{SET}/scenarios/floors/bulk.jsonl", "\n" + json.dumps(data) + "\n\n")
    after = load_eval_set(WorkTree(repo), "ads/diagnosis")
    assert scenario_digest(after.core[0]) == scenario_digest(before.core[0])
    assert after.question() == before.question()


def test_a_bad_line_of_a_jsonl_file_is_named(repo: Path, put: Put) -> None:
    data = read_yaml(FLOOR, (repo / FLOOR).read_bytes()).data
    lines = [
        json.dumps({**data, "id": "two"}),
        json.dumps({**data, "id": "three", "risk": "huge"}),
        "{",
        '{"a":1,"a":2}',
    ]
    put(f"{SET}/scenarios/floors/bulk.jsonl", "\n".join(lines))
    places = [(line, field) for file, line, field in _fields(repo) if file.endswith("bulk.jsonl")]
    assert places == [(2, "risk"), (3, ""), (4, "a")]


def test_names_must_agree_with_files_and_folders(repo: Path, change: Edit) -> None:
    change(FLOOR, "id: floor-1", "id: other")
    change(HELD, "capability: floors", "capability: timeouts")
    change(RUBRIC, "id: quality", "id: other")
    change(GENERATOR, "id: floors", "id: other")
    change(f"{SET}/evalset.yaml", "id: diagnosis", "id: other")
    change(f"{SET}/evalset.yaml", "domain: ads", "domain: other")
    assert _fields(repo) == [
        ("evalset.yaml", 1, "id"),
        ("evalset.yaml", 2, "domain"),
        ("generators/floors.yaml", 1, "id"),
        ("held_out/floors/floor-held-1.yaml", 2, "capability"),
        ("rubrics/quality.yaml", 1, "id"),
        ("scenarios/floors/floor-1.yaml", 1, "id"),
    ]


def test_ids_are_unique_across_all_sections(repo: Path, change: Edit, put: Put) -> None:
    text = (repo / FLOOR).read_text()
    put(f"{SET}/micro/floors/floor-1.yaml", text)
    assert ("micro/floors/floor-1.yaml", 1, "id") in _fields(repo)


def test_criteria_and_references_must_match_the_rubric(repo: Path, change: Edit) -> None:
    change(FLOOR, "point: cause", "point: tone")
    change(HELD, "  cause: floor\n", "  reason: floor\n")
    change(GENERATOR, "{cause: floor}", "{reason: floor}")
    change(GENERATOR, "points: [cause]", "points: [tone]")
    assert _fields(repo) == [
        ("generators/floors.yaml", 3, "points[0]"),
        ("generators/floors.yaml", 5, "reference"),
        ("held_out/floors/floor-held-1.yaml", 10, "reference"),
        ("scenarios/floors/floor-1.yaml", 12, "criteria[0].point"),
    ]


def test_the_last_word_must_be_the_users(repo: Path, change: Edit) -> None:
    change(FLOOR, "reference:\n", "  - role: assistant\n    content: Indeed.\nreference:\n")
    assert _fields(repo) == [("scenarios/floors/floor-1.yaml", 9, "messages[1].role")]


def test_template_slots_must_be_declared_and_used(repo: Path, change: Edit) -> None:
    change(GENERATOR, "{seller} wants", "{Seller} wants")
    change(GENERATOR, "capability: floors", "capability: florrs")
    assert _fields(repo) == [
        ("generators/floors.yaml", 2, "capability"),
        ("generators/floors.yaml", 10, "templates[0].user"),
    ]


def test_what_the_right_answer_says_stands_in_every_note(repo: Path, change: Edit) -> None:
    change(GENERATOR, "reference: {cause: floor}", 'reference: {cause: floor, who: "{seller}", when: "{day}"}')
    change(GENERATOR, "templates:\n", "templates:\n  - {id: other, user: Too cheap again.}\n")
    change(GENERATOR, "[Magnite, OpenX]", "[Magnite, 7]")
    assert _fields(repo) == [
        ("generators/floors.yaml", 5, "reference"),
        ("generators/floors.yaml", 9, "templates[0].user"),
    ]
    change(GENERATOR, "Too cheap again.", '"{seller}: too cheap again."')
    change(GENERATOR, ', when: "{day}"', "")
    assert load_eval_set(WorkTree(repo), "ads/diagnosis").generators[0].filled({"seller": 7}) == {
        "cause": "floor",
        "who": 7,
    }


def test_a_held_out_copy_of_core_is_found_despite_numbers_and_order(repo: Path, change: Edit) -> None:
    change(
        HELD,
        "A television exchange now rejects most morning offers because its deal asks for twelve dollars.\nreference",
        "As too cheap 55 percent of our answers came back; publishers in Spain raised their minimum price.\nreference",
    )
    [(file, line, field, message)] = _problems(repo)
    assert (file, line, field) == ("held_out/floors/floor-held-1.yaml", 8, "messages[0].content")
    assert FLOOR in message
    assert "Spain" not in message


def test_every_held_out_text_that_is_too_near_is_named(repo: Path, change: Edit, put: Put) -> None:
    text = (repo / FLOOR).read_text().replace("floor-1", "floor-held-2").replace("41", "14")
    put(f"{SET}/held_out/floors/floor-held-2.yaml", text)
    assert _fields(repo) == [
        ("held_out/floors/floor-held-2.yaml", 8, "messages[0].content"),
        ("held_out/floors/floor-held-2.yaml", 16, "variants[0]"),
    ]


def test_many_short_texts_are_too_many_to_be_compared_as_few_long_are() -> None:
    """Each pair costs, however short its texts: a hundred thousand of one letter took a quarter of an hour."""
    assert compared(["x"] * 100_000) ** 2 > MAX_COMPARED


def test_a_set_without_its_rubric_or_core_scenarios_is_refused(repo: Path, change: Edit, put: Put) -> None:
    change(f"{SET}/evalset.yaml", "rubrics/quality.yaml", "rubrics/qualty.yaml")
    put(FLOOR, None)
    assert _fields(repo) == [("evalset.yaml", 1, ""), ("evalset.yaml", 6, "rubric")]


def test_a_rubric_pattern_must_be_re2_and_expect_something(repo: Path, put: Put) -> None:
    put(
        RUBRIC,
        "id: quality\nowner: domain-lead\ndescription: d\npoints:\n"
        "  - {id: cause, text: t, weight: 1, check: {type: regex, pattern: '(?=a)b'}}\n"
        "  - {id: cause, text: t, weight: 1, check: {type: text, expected: {}}}\n",
    )
    assert _fields(repo) == [
        ("rubrics/quality.yaml", 5, "points[0].check.pattern"),
        ("rubrics/quality.yaml", 6, "points[1]"),
        ("rubrics/quality.yaml", 6, "points[1].check.expected"),
    ]


def test_what_scoring_could_not_use_is_found_before_anything_is_asked(repo: Path, put: Put) -> None:
    checks = {
        "{type: json_schema, schema: {properties: {day: {format: daet}}}}": "schema",
        "{type: json_schema, schema: {$ref: '#/default', default: {pattern: '(a+)+$'}}}": "schema",
        "{type: regex, pattern: '((((x{100}){100}){100}){100})'}": "pattern",
        "{type: number, expected: {value: five}}": "expected",
        "{type: text, expected: {value: ''}}": "expected",
    }
    points = "".join(f"  - {{id: p{n}, text: t, weight: 1, check: {check}}}\n" for n, check in enumerate(checks))
    put(RUBRIC, f"id: quality\nowner: domain-lead\ndescription: d\npoints:\n{points}")
    problems = [problem for problem in _fields(repo) if problem[0] == "rubrics/quality.yaml" and problem[2] != "points"]
    assert problems == [
        ("rubrics/quality.yaml", 5 + n, f"points[{n}].check.{part}") for n, part in enumerate(checks.values())
    ]


def test_patterns_that_take_long_to_compile_are_refused_by_what_they_cost(repo: Path, put: Put) -> None:
    """A few bytes of a pattern can take a second and megabytes; a rubric may hold many points."""
    points = "".join(
        f"  - {{id: p{n}, text: t, weight: 1, check: {{type: regex, pattern: '{n}(?:[\\pL]{{20}})'}}}}\n"
        for n in range(150)
    )
    put(RUBRIC, f"id: quality\nowner: domain-lead\ndescription: d\npoints:\n{points}")
    [problem] = [entry for entry in _problems(repo) if "too long to compile" in entry[3]]
    assert problem[:2] == ("rubrics/quality.yaml", problem[1])


def test_a_linked_scenario_is_refused(repo: Path) -> None:
    (repo / SET / "scenarios" / "floors" / "link.yaml").symlink_to(repo / FLOOR)
    assert [file for file, *_ in _problems(repo)] == ["scenarios/floors/link.yaml"]


@pytest.mark.parametrize("name", ["ads/none", "ads", "../repo/evals/ads", "ads/diagnosis/scenarios", "", "/", "a//b"])
def test_an_unknown_set_says_which_ones_there_are(repo: Path, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_eval_set(WorkTree(repo), name)
    assert refused.value.code == "unknown-set"
    assert refused.value.details["known"] == ["ads/diagnosis"]


def test_a_cluster_is_laid_over_the_defaults_key_by_key(repo: Path) -> None:
    cluster = load_cluster(WorkTree(repo), "pricing")
    assert (cluster.stages[0].steps, cluster.stages[0].seed) == (12, 3)
    assert (cluster.stages[0].lora.rank, cluster.stages[0].lora.alpha) == (8, 64)
    assert cluster.hosts == ("local",)


def test_a_cluster_needs_no_defaults(repo: Path, put: Put) -> None:
    put("clusters/defaults.yaml", None)
    assert load_cluster(WorkTree(repo), "pricing").stages[0].lora.rank == 16


def test_training_is_one_stage_or_a_list_with_settings_by_method(repo: Path, change: Edit) -> None:
    single = load_cluster(WorkTree(repo), "pricing")
    block = "training:\n  seed: 3\n  lora: {alpha: 64}\n"
    settings = "{seed: 3, steps: 12, lora: {rank: 8, alpha: 64}}"
    change(CLUSTER, block, f"training:\n- {settings}\n")
    same = load_cluster(WorkTree(repo), "pricing")
    assert same.stages == single.stages, "a list of one means the same"
    assert training_digest(same.training) == training_digest(single.training)

    change(CLUSTER, settings, settings + "\n- {method: dpo, seed: 3, beta: 0.2, lora: {rank: 8, alpha: 64}}")
    two = load_cluster(WorkTree(repo), "pricing")
    assert [stage.method for stage in two.stages] == ["sft", "dpo"]
    assert training_digest(two.training) != training_digest(single.training)

    change(CLUSTER, "beta: 0.2", "epsilon: 0.2")
    with pytest.raises(InvalidInput) as refused:
        load_cluster(WorkTree(repo), "pricing")
    assert [(p["field"], p["message"]) for p in refused.value.details["problems"]] == [
        ("training[1].epsilon", "there is no field 'epsilon'")
    ]


def test_a_problem_of_a_cluster_names_the_file_where_the_value_stands(repo: Path, change: Edit) -> None:
    def places_of_problems() -> list[tuple[str, int, str]]:
        with pytest.raises(InvalidInput) as refused:
            load_cluster(WorkTree(repo), "pricing")
        return [(p["file"], p["line"], p["field"]) for p in refused.value.details["problems"]]

    change(CLUSTER, "seed: 3", "seed: three")
    assert places_of_problems() == [(CLUSTER, 13, "training.seed")]
    change("clusters/defaults.yaml", "steps: 12", "steps: 0")
    assert places_of_problems() == [("clusters/defaults.yaml", 3, "training.steps")]
    change("clusters/defaults.yaml", "steps: 0", "steps: 1")
    change(CLUSTER, "seed: three", "sead: 3")
    change(CLUSTER, "owner: head\n", "")
    assert places_of_problems() == [(CLUSTER, 1, "owner"), (CLUSTER, 12, "training.sead")]


def test_a_cluster_lies_in_the_folder_of_its_name(repo: Path, change: Edit) -> None:
    change(CLUSTER, "cluster: pricing", "cluster: other")
    with pytest.raises(InvalidInput, match="name is not the folder's"):
        load_cluster(WorkTree(repo), "pricing")
    for name in ("none", "..", "a/b", ""):
        with pytest.raises(InvalidInput) as refused:
            load_cluster(WorkTree(repo), name)
        assert refused.value.code == "unknown-cluster"


def test_governance_is_read(repo: Path, put: Put) -> None:
    tree = WorkTree(repo)
    assert load_policy(tree).transitions[1].gate == "head"
    assert load_people(tree).people[0].id == "maya"
    assert load_codeowners(tree).owners("evals/x") == ("@domain-lead",)
    put(".github/CODEOWNERS", b"\xff")
    with pytest.raises(InvalidInput, match="UTF-8"):
        load_codeowners(tree)
