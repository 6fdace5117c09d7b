"""Evidence expires: once main asks something else, a deployed specialist no longer rests on what it was approved on."""

from __future__ import annotations

import pytest

SET = "evals/adtech/rtb-root-cause"
CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"


def change(world, path, old, new, proposer, approver):
    """A governed change, proposed by one person and approved by another, on main."""
    text = (world.clone / path).read_text()
    assert old in text
    world.commit("change", {path: text.replace(old, new, 1)})
    opened = world.modelsmith("pr", "open", "change", "--title", path, "--key", world.key(proposer), "--json")
    number = str(opened.json["pull"]["number"])
    for words in (("approve", number, "--key", world.key(approver)), ("pr", "merge", number)):
        result = world.modelsmith(*words, "--json")
        assert result.code == 0, result.out


def stale(world):
    """Reasons by specialist, as `status` says, and what renews them; `verify` must say the same."""
    (cluster,) = world.modelsmith("status", "--json").json["clusters"]
    reasons = {
        specialist["specialist"]: specialist["stale"] for specialist in cluster["specialists"] if specialist["stale"]
    }
    verified = world.modelsmith("verify", "--json")
    assert verified.code == 0, "stale is no integrity failure"
    assert {entry["specialist"]: entry["reasons"] for entry in verified.json["stale"]} == reasons
    return reasons, cluster["renewal"]


def test_fresh_evidence_is_not_called_stale(deployed):
    assert stale(deployed) == ({}, "")


@pytest.mark.parametrize(
    ("path", "old", "new", "people", "reason"),
    [
        (f"{SET}/scenarios/auction-timeout/timeout-core-01.yaml", "131 ms", "132 ms", ("petra", "dana"), "core"),
        (f"{SET}/rubrics/root-cause.yaml", "weight: ", "weight: 1", ("petra", "dana"), "rubric"),
        (CLUSTER_FILE, "composite: 0.0", "composite: 0.001", ("petra", "maya"), "registered rule"),
    ],
    ids=["scenario", "rubric", "threshold"],
)
def test_a_changed_question_or_rule_is_named_with_what_renews_it(deployed, path, old, new, people, reason):
    specialist = deployed.state()["specialist"]
    change(deployed, path, old, new, *people)
    reasons, renewal = stale(deployed)
    assert list(reasons) == [specialist]
    assert reason in " ".join(reasons[specialist])
    assert f"modelsmith eval --cluster rtb-pricing --model {specialist}" in renewal
    output = deployed.modelsmith("status").out
    assert "stale evidence" in output
    assert "modelsmith iterate rtb-pricing" in output


def test_a_changed_policy_is_named_though_the_figures_stand(deployed):
    policy = ".github/governance/policy.yaml"
    change(deployed, policy, "changed_paths: 3000", "changed_paths: 2999", "maya", "petra")
    reasons, renewal = stale(deployed)
    assert [text for texts in reasons.values() for text in texts] == ["the policy changed since it was approved"]
    assert "its evidence stands" in renewal


@pytest.mark.parametrize(
    ("path", "old", "new", "people"),
    [
        (f"{SET}/scenarios/auction-timeout/timeout-core-01.yaml", "131 ms", "132 ms", ("petra", "dana")),
        (CLUSTER_FILE, "composite: 0.0", "composite: 0.001", ("petra", "maya")),
    ],
    ids=["reworded", "tightened"],
)
@pytest.mark.parametrize("point", ["reference_run", "promote_accepted"], ids=["assess", "promote"])
def test_main_that_moves_between_seal_and_promote_wedges_no_loop(fresh, point, path, old, new, people):
    """The next call begins anew by itself: no gate says again and again that the eval answered an older question."""
    fresh.stop_at(f"modelsmith.loop.phases:{point} 1 before SIGKILL", "iterate", "rtb-pricing", "--json")
    assert (fresh.state()["number"], fresh.state()["phase"]) == (1, "assess" if point == "reference_run" else "promote")
    change(fresh, path, old, new, *people)
    result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code in (3, 4), result.out
    assert result.json.get("code") != "gate-closed", result.out
    assert fresh.state()["number"] > 1
    assert fresh.state()["phase"] in ("waiting", "done")
