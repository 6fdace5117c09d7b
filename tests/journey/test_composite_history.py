"""A reviewer asks how the composite moved, in the harness's clone and in a plain one."""

from __future__ import annotations

import shutil

from picture_rules import assert_readable

CLUSTER = "rtb-pricing"


def test_the_history_names_runs_events_and_who_serves(deployed):
    result = deployed.modelsmith("composite-history", CLUSTER, "--svg", "history.svg", "--json")
    assert result.code == 0, result.out + result.err
    history = result.json["history"]
    base, candidate = history["entries"]
    assert (base["model"], base["number"]) == ("base", 1)
    assert candidate["events"] == ["candidate", "eval-accepted", "artifact-exported", "customer-deployed"]
    assert candidate["tag"] == "rtb-pricing-iter-001-candidate"
    assert {base["serves"], candidate["serves"]} == set(history["serving"].values())
    assert history["questions"][0]["reference"] == base["composite"]
    assert history["changes"] == []
    assert_readable((deployed.clone / "history.svg").read_text())
    view = deployed.modelsmith("composite-history", CLUSTER)
    assert candidate["model"] in view.out
    assert "customer-deployed" in view.out


def test_a_plain_clone_without_a_ledger_tells_the_same(deployed):
    own_history = deployed.modelsmith("composite-history", CLUSTER, "--json").json["history"]
    plain = deployed.folder / "plain"
    deployed.must("clone", "--quiet", str(deployed.forge), str(plain))
    plain_history = deployed.modelsmith("composite-history", CLUSTER, "--json", cwd=plain).json["history"]
    assert [entry["tag"] for entry in plain_history["entries"]] == [None, own_history["entries"][1]["tag"]]
    for entry in (*own_history["entries"], *plain_history["entries"]):
        del entry["tag"]
    assert plain_history == own_history


def test_after_a_lost_ledger_and_a_rollback_it_says_so(deployed):
    shutil.rmtree(deployed.private)
    assert deployed.modelsmith("rollback", CLUSTER, "--reason", "win rate fell", "--json").code in (0, 4)
    history = deployed.modelsmith("composite-history", CLUSTER, "--json").json["history"]
    assert history["entries"][-1]["events"][-1] == "rolled-back"
    assert history["serving"] == {"base": 1.0}


def test_before_the_first_run_there_is_nothing_and_the_next_step_is_named(fresh):
    result = fresh.modelsmith("composite-history", CLUSTER)
    assert result.code == 0, result.err
    assert "modelsmith eval --cluster rtb-pricing" in result.out
    assert fresh.modelsmith("composite-history", "nobody", "--json").json["code"] == "unknown-cluster"
