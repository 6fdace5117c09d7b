"""A person can see what a specialist is trained on and take rows out, and ask what became of a failure."""

from __future__ import annotations

import json

from worlds import CLUSTER

PATTERN = "auction-timeout.form"


def test_why_follows_a_failure_from_its_rows_to_the_adapter_and_what_that_one_still_fails(waiting):
    told = waiting.modelsmith("why", PATTERN, "--json").json
    (turn,) = told["turns"]
    specialist = waiting.state()["specialist"]
    assert (told["kind"], turn["diagnosed"], turn["specialist"]) == ("pattern", "base", specialist)
    assert (turn["rows"], turn["failed"], turn["methods"]) == (6, 4, ["sft"])
    assert told["now"] == turn["outcome"] == ("still failing" if turn["still"] else "fixed")
    scenario = waiting.modelsmith("why", "timeout-core-01", "--json").json
    assert scenario["turns"][0]["pattern"] == PATTERN
    for hidden in ("timeout-held-01", "never-heard-of"):
        refused = waiting.modelsmith("why", hidden, "--json")
        assert (refused.code, refused.json["code"]) == (2, "unknown-failure")
    batch = waiting.modelsmith("review-synthetic", CLUSTER, "--json").json
    assert (batch["rows"], batch["waits"]) == (12, False)
    assert "held" not in json.dumps(batch).replace("held-out", "")
    late = waiting.modelsmith("strike", CLUSTER, batch["samples"][0]["row"], "--reason", "Late.", "--json")
    assert late.json["code"] == "rows-in-use"


def test_a_struck_row_is_not_trained_on_and_stays_away(waiting):
    stopped = waiting.modelsmith("iterate", CLUSTER, "--restart", "--review-rows", "--json")
    assert (stopped.code, stopped.json["phase"], stopped.json["iteration"]) == (4, "train", 2)
    before = waiting.modelsmith("review-synthetic", CLUSTER, "--json").json
    row = before["samples"][0]["row"]
    assert waiting.modelsmith("strike", CLUSTER, "0" * 12, "--reason", "x", "--json").json["code"] == "unknown-row"
    left = waiting.modelsmith("strike", CLUSTER, row, "--reason", "It teaches two answers.", "--json").json
    assert (before["waits"], left["rows"]) == (True, before["rows"] - 1)
    assert left["rows_digest"] != before["rows_digest"]
    after = waiting.modelsmith("iterate", CLUSTER, "--json")
    assert after.json["specialist"].startswith("iter-002-"), after.out
    facts = json.loads((waiting.folder_of("candidate") / "training.json").read_bytes())
    assert (facts["rows"], facts["rows_digest"]) == (left["rows"], left["rows_digest"])
    shown = waiting.modelsmith("review-synthetic", CLUSTER, "--json").json
    assert [one["reason"] for one in shown["struck"]] == ["It teaches two answers."]


def test_pending_cases_are_asked_and_score_nothing(waiting):
    records = waiting.folder / "records.jsonl"
    case = {"prompt": "Write to jane@example.org: bids time out.", "answer": "pacing", "outcome": "wrong"}
    records.write_text(f"{json.dumps(case)}\n{json.dumps(case)}\n")
    pull = waiting.modelsmith("capture", str(records), "--json").json["pull"]["number"]
    assert waiting.modelsmith("approve", str(pull), "--key", waiting.key("dana")).code == 0
    assert waiting.modelsmith("pr", "merge", str(pull)).code == 0
    waiting.must("fetch", str(waiting.forge), "main")
    waiting.must("merge", "--ff-only", "FETCH_HEAD")
    asked = waiting.modelsmith("run-pending", CLUSTER, "--json")
    (answered,) = asked.json["cases"]
    assert (answered["seen"], answered["asked"]) == (2, "Write to [email]: bids time out.")
    assert isinstance(answered["answer"], str)
    again = waiting.modelsmith("eval", "--cluster", CLUSTER, "--tag", "after", "--json").json["run"]
    assert (again["scenarios"], again["executed"]) == (12, 0)
    assert waiting.modelsmith("validate").code == 0
