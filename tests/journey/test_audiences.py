"""The platform keeps what answering costs for operators: the loop leaves it out, and everything still verifies."""

from __future__ import annotations

import json

import pytest
import tiny

POLICY = ".github/governance/policy.yaml"


def say(world, audiences):
    path = world.clone / POLICY
    text = path.read_text()
    assert text.endswith("audiences: {}\n")
    path.write_text(text.removesuffix("{}\n") + "{" + audiences + "}\n")


@pytest.mark.parametrize(
    ("audiences", "words"),
    [
        ("Observation.completion: reviewer", "nobody but the operator"),
        ("Observation.completion: public", ""),
        ("RunEvidence.rows: operator", "cannot be kept from reviewers"),
        ("Runs.cost: operator", "no record type 'Runs'"),
    ],
)
def test_validate_names_what_policy_may_not_say_with_line_and_mend(fresh, audiences, words):
    say(fresh, audiences)
    result = fresh.modelsmith("validate", "--json")
    assert result.code == 2
    (problem,) = result.json["problems"]
    assert problem["file"] == POLICY
    assert "audiences: " in (fresh.clone / POLICY).read_text().splitlines()[problem["line"] - 1]
    assert problem["field"] == f"audiences.{audiences.split(':')[0]}"
    assert words in problem["message"]
    assert problem["mend"]


def test_what_is_kept_for_operators_stays_out_of_the_repository(fresh):
    say(fresh, "RunResult.cost: operator, Evidence.environment: operator, TrainingFacts.toolkit: operator")
    tiny.commit_to_root(fresh.clone, fresh.forge)
    result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.out + result.err
    assert result.json["candidate"]["cost"]["p50_seconds"] > 0
    evidence = json.loads((fresh.folder_of("eval-accepted") / "evidence.json").read_bytes())
    assert [evidence[run]["cost"] for run in ("candidate", "incumbent")] == [None, None]
    assert evidence["environment"] == {}
    assert evidence["training"]["toolkit"] is None
    assert evidence["training"]["final_loss"] is not None
    assert json.loads((fresh.folder_of("candidate") / "training.json").read_bytes()) == evidence["training"]
    packet = fresh.modelsmith("pr", "show", "4", "--json").json["proposal"]["packet"]["text"]
    assert "### Speed and cost\n\nkept for operators by policy." in packet
    for words in (("approve", "4", "--key", fresh.key("maya")), ("pr", "merge", "4"), ("verify",)):
        result = fresh.modelsmith(*words, "--json")
        assert result.code == 0, result.out
    answer = fresh.modelsmith("lineage", evidence["specialist"], "--json").json["ancestors"][0]["training"]
    assert answer["toolkit"] is None
