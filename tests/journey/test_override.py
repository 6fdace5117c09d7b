"""An eval that cannot tell counts only when a person says so and why; the loop then goes on from there."""

from __future__ import annotations

import yaml
from worlds import CLUSTER

POLICY = ".github/governance/policy.yaml"
SET = "evals/adtech/rtb-root-cause/evalset.yaml"
REASON = "Nobody has more cases than these."


def merged(world, branch, files, opener, approver):
    """A governed change, opened by one person and approved by another."""
    world.commit(branch, files)
    command = ("pr", "open", branch, "--title", branch, "--key", world.key(opener), "--json")
    number = str(world.modelsmith(*command).json["pull"]["number"])
    for words in (("approve", number, "--key", world.key(approver)), ("pr", "merge", number)):
        result = world.modelsmith(*words, "--json")
        assert result.code == 0, result.out


def named(world, role):
    policy = yaml.safe_load((world.clone / POLICY).read_text())
    next(transition for transition in policy["transitions"] if transition["event"] == "eval-accepted")["override"] = (
        role
    )
    merged(world, "override", {POLICY: yaml.safe_dump(policy, sort_keys=False)}, "dana", "petra")


def test_an_inconclusive_goes_on_only_by_a_person_s_override(fresh):
    document = yaml.safe_load((fresh.clone / SET).read_text())
    document["decision"]["margin"] = 0.001
    merged(fresh, "margin", {SET: yaml.safe_dump(document, sort_keys=False)}, "petra", "dana")
    result = fresh.modelsmith("iterate", CLUSTER, "--json")
    assert (result.code, result.json["outcome"]) == (3, "INCONCLUSIVE"), result.out
    ask = ("promote", CLUSTER, "--override", REASON, "--json")
    assert fresh.modelsmith(*ask).json["code"] == "override-forbidden"
    named(fresh, "domain-lead")

    override = fresh.modelsmith(*ask)
    assert (override.code, override.json["event"], override.json["waiting_for"]) == (
        4,
        "eval-accepted",
        ["@domain-lead"],
    )
    number = str(override.json["pull"])
    assert fresh.modelsmith(*ask).json["pull"] == override.json["pull"], "adopted"
    output = fresh.modelsmith("pr", "show", number).out
    assert output.split("\n\n")[0].strip().startswith("OVERRIDE OF AN INCONCLUSIVE")
    assert REASON in output
    assert fresh.modelsmith("iterate", CLUSTER, "--json").code == 4
    assert fresh.modelsmith("pr", "merge", number, "--json").json["code"] == "approval-missing"
    for words in (("approve", number, "--key", fresh.key("dana")), ("pr", "merge", number)):
        result = fresh.modelsmith(*words, "--json")
        assert result.code == 0, result.out

    went_on = fresh.modelsmith("iterate", CLUSTER, "--json")
    assert (went_on.code, went_on.json["waiting_for"]) == (4, ["@head-of-trading"]), went_on.out
    assert went_on.json["specialist"] == override.json["specialist"]
    assert not {"train", "eval"} & went_on.phases
    packet = (fresh.folder_of("eval-accepted") / "packet.md").read_text()
    assert packet.startswith("**OVERRIDE OF AN INCONCLUSIVE.**")
    text = fresh.modelsmith("composite-history", CLUSTER).out
    assert "INCONCLUSIVE  overridden by a person" in text
    assert f"dana let it count: {REASON}" in fresh.modelsmith("lineage", override.json["specialist"]).out
    assert f"overridden: dana: {REASON}" in fresh.modelsmith("status").out
    assert fresh.modelsmith("verify", "--json").code == 0
    assert fresh.modelsmith(*ask).json["code"] == "nothing-to-override"
