"""A reviewer asks how the composite moved, in the harness's clone and in a plain one."""

from __future__ import annotations

import shutil

from picture_rules import assert_readable

CLUSTER = "rtb-pricing"


def test_the_history_names_runs_events_and_who_serves(deployed):
    ran = deployed.modelsmith("composite-history", CLUSTER, "--svg", "history.svg", "--json")
    assert ran.code == 0, ran.out + ran.err
    found = ran.json["history"]
    base, candidate = found["entries"]
    assert (base["model"], base["number"]) == ("base", 1)
    assert candidate["events"] == ["candidate", "eval-accepted", "artifact-exported", "customer-deployed"]
    assert candidate["tag"] == "rtb-pricing-iter-001-candidate"
    assert {base["serves"], candidate["serves"]} == set(found["serving"].values())
    assert found["questions"][0]["reference"] == base["composite"]
    assert found["changes"] == []
    assert_readable((deployed.clone / "history.svg").read_text())
    shown = deployed.modelsmith("composite-history", CLUSTER)
    assert candidate["model"] in shown.out
    assert "customer-deployed" in shown.out


def test_a_plain_clone_without_a_ledger_tells_the_same(deployed):
    here = deployed.modelsmith("composite-history", CLUSTER, "--json").json["history"]
    plain = deployed.folder / "plain"
    deployed.must("clone", "--quiet", str(deployed.forge), str(plain))
    there = deployed.modelsmith("composite-history", CLUSTER, "--json", cwd=plain).json["history"]
    assert [entry["tag"] for entry in there["entries"]] == [None, here["entries"][1]["tag"]]
    for one in (*here["entries"], *there["entries"]):
        del one["tag"]
    assert there == here


def test_after_a_lost_ledger_and_a_rollback_it_says_so(deployed):
    shutil.rmtree(deployed.private)
    assert deployed.modelsmith("rollback", CLUSTER, "--reason", "win rate fell", "--json").code in (0, 4)
    found = deployed.modelsmith("composite-history", CLUSTER, "--json").json["history"]
    assert found["entries"][-1]["events"][-1] == "rolled-back"
    assert found["serving"] == {"base": 1.0}


def test_before_the_first_run_there_is_nothing_and_the_next_step_is_named(fresh):
    ran = fresh.modelsmith("composite-history", CLUSTER)
    assert ran.code == 0, ran.err
    assert "modelsmith eval --cluster rtb-pricing" in ran.out
    assert fresh.modelsmith("composite-history", "nobody", "--json").json["code"] == "unknown-cluster"
