"""What an eval says holds for the files of today: never a verdict, a price or a part of an earlier day."""

from __future__ import annotations

from worlds import CLUSTER

SET = "evals/adtech/rtb-root-cause/evalset.yaml"


def evaluate(world, *words):
    ran = world.modelsmith("eval", "--cluster", CLUSTER, *words, "--json")
    return ran.code, ran.json


def edited(world, path, old, new):
    file = world.clone / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_same_command_after_the_rule_or_a_price_changed_says_todays_verdict(fresh):
    code, first = evaluate(fresh)
    assert (code, first["run"]["headline"]["verdict"]) == (0, "PASS")
    edited(fresh, SET, "composite: 0.0", "composite: 0.9")
    code, second = evaluate(fresh)
    assert (code, second["run"]["headline"]["verdict"], second["run"]["executed"]) == (3, "FAIL", 0)
    assert second["run"]["eval_tree"] != first["run"]["eval_tree"]
    edited(fresh, SET, "composite: 0.9", "composite: 0.0")
    edited(fresh, "clusters/defaults.yaml", "compute_per_hour: ", "compute_per_hour: 9")
    code, third = evaluate(fresh)
    assert (code, third["run"]["executed"]) == (0, 0)
    assert third["run"]["cost"]["cost_per_decision"] > first["run"]["cost"]["cost_per_decision"]


def test_a_part_of_the_set_never_ends_in_pass(fresh):
    """Not even where the rule asks for one scenario and the part holds it."""
    code, quick = evaluate(fresh, "--quick")
    assert (code, quick["run"]["headline"]["verdict"]) == (3, "INCONCLUSIVE")


def test_runs_of_different_questions_are_not_compared(fresh):
    evaluate(fresh, "--tag", "before")
    edited(fresh, "evals/adtech/rtb-root-cause/rubrics/root-cause.yaml", "weight: 2", "weight: 3")
    code, error = evaluate(fresh, "--against", "before")
    assert (code, error["code"]) == (2, "other-question")


def test_the_loops_own_tags_are_not_for_others(fresh):
    code, error = evaluate(fresh, "--quick", "--tag", f"{CLUSTER}-iter-001-base")
    assert (code, error["code"]) == (2, "tag-reserved")
