"""What an eval says holds for the files of today: never a verdict, a price or a part of an earlier day."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from worlds import CLUSTER

sys.path.insert(0, str(Path(__file__).parents[1] / "substrates"))
from stub_server import StubServer

PRICES = {"prompt_per_million": 1000.0, "completion_per_million": 2000.0}
SET = "evals/adtech/rtb-root-cause/evalset.yaml"


def evaluate(world, *words):
    result = world.modelsmith("eval", "--cluster", CLUSTER, *words, "--json")
    return result.code, result.json


def edited(world, path, old, new):
    file = world.clone / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_after_the_rule_or_a_price_changed_today_s_verdict_is_said(fresh):
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


def test_answers_of_another_engine_are_not_todays(fresh):
    """Nor is the tag of that run in the way of asking this one."""
    _, first = evaluate(fresh)
    engine = first["run"]["engine"]["version"]
    folder = fresh.private / CLUSTER / "runs" / first["run"]["tag"]
    for file in (folder / "request.json", folder / "result.json"):
        assert engine in file.read_text()
        file.write_text(file.read_text().replace(engine, "transformers 0.1, torch 0.1"))
    code, refused = evaluate(fresh, "--tag", first["run"]["tag"])
    assert (code, refused["code"], refused["details"]["differing"]) == (2, "tag-taken", ["engine"])


def test_answers_that_another_toolkit_read_otherwise_are_read_anew(fresh):
    """No model is asked again, and no verdict of one reading stands beside those of another."""
    _, first = evaluate(fresh)
    tag = first["run"]["tag"]
    request = fresh.private / CLUSTER / "runs" / tag / "request.json"
    older = json.loads(request.read_text())
    del older["reading"]
    request.write_text(json.dumps(older))
    code, refused = evaluate(fresh, "--tag", tag)
    assert (code, refused["code"], refused["details"]["differing"]) == (2, "tag-taken", ["reading"])
    code, refused = evaluate(fresh, "--tag", "another", "--against", tag)
    assert (code, refused["code"]) == (2, "tag-taken")
    code, again = evaluate(fresh, "--tag", "another")
    assert (code, again["run"]["executed"]) == (0, 0)


def test_a_baselines_settings_of_today_count_but_not_its_address(fresh):
    with StubServer() as stub, StubServer() as moved:

        def evaluate_with(**settings):
            path = fresh.clone / f"clusters/{CLUSTER}/cluster.yaml"
            endpoint = {"url": stub.url, "model": "frontier-1", "prices": PRICES} | settings
            document = yaml.safe_load(path.read_text()) | {"baselines": [{"name": "frontier", "endpoint": endpoint}]}
            path.write_text(yaml.safe_dump(document, sort_keys=False))
            return evaluate(fresh, "--model", "frontier")[1]["run"]

        first, dearer = evaluate_with(), evaluate_with(prices={name: 2 * price for name, price in PRICES.items()})
        assert dearer["executed"] == 0
        assert dearer["cost"]["cost_per_decision"] == 2 * first["cost"]["cost_per_decision"]
        without = evaluate_with(omit=["seed"])
        assert (without["engine"]["omitted"], without["executed"]) == (["seed"], first["executed"])
        assert without["tag"] != first["tag"]
        assert (evaluate_with(url=moved.url)["executed"], moved.seen) == (0, [])
