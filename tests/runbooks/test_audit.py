"""The audit of a time: complete, the same for everybody, and held against main."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playing import must, play
from worlds import CLUSTER

from modelsmith.schema.canonical import canonical_json, sha256

BEGIN = "2026-01-01"


def now():
    """The next whole second, once it is over."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    while datetime.now(UTC) <= end:
        time.sleep(0.02)
    return end.isoformat()


def audit(world, until, out=None, since=BEGIN, code=0):
    named = ["--out", str(out)] if out else []
    return must(world, code, "audit", "--from", since, "--to", until, *named)


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def audited(deployed_template, tmp_path_factory):
    """A world in which a regression was answered and a key changed, and its audit."""
    world = deployed_template.copied_to(tmp_path_factory.mktemp("audited") / "world")
    play(world, 4, "regression-response", cluster=CLUSTER, reason="win rate fell")
    play(world, 2, "failed-training-triage", cluster=CLUSTER, tag="ops@example.org")
    people = world.clone / ".github/governance/people.yaml"
    text = people.read_text()
    at = text.index("\n", text.index("key:", text.index("id: noor")))
    world.commit(
        "keys",
        {str(people.relative_to(world.clone)): f"{text[:at]}\n    valid_before: 2099-01-01T00:00:00Z{text[at:]}"},
    )
    number = str(must(world, 0, "pr", "open", "keys", "--title", "Keys", "--key", world.key("dana"))["pull"]["number"])
    must(world, 0, "approve", number, "--key", world.key("petra"))
    must(world, 0, "pr", "merge", number)
    until = now()
    return world, until, audit(world, until, world.folder / "out")


def test_it_tells_every_change_with_its_approvals_evidence_keys_and_runs(audited):
    world, _, result = audited
    stated = result["audit"]
    changes = {change["pull"]: change for change in stated["changes"]}
    log = world.git.text("rev-list", "--first-parent", "--merges", "main").split()
    assert [change["commit"] for change in stated["changes"]] == log[::-1]
    deployment = changes[4]
    assert (deployment["promotion"]["event"], deployment["gate"]) == ("customer-deployed", "people")
    (approval,) = deployment["approvals"]
    receipts = world.folder_of("customer-deployed") / "receipts"
    assert (approval["actor"], approval["how"]) == ("maya", "signed")
    assert approval["statement"] == sha256((receipts / "approval-maya.json").read_bytes())
    evidence = world.folder_of("eval-accepted") / "evidence.json"
    assert changes[2]["promotion"]["files"]["evidence.json"] == sha256(evidence.read_bytes())
    rolled = next(change for change in stated["changes"] if change["promotion"] and change["promotion"]["rollback"])
    assert rolled["gate"] == "contract"
    keys = stated["changes"][-1]["keys"]
    assert [(key["what"], key["key"]["holder"]) for key in keys] == [("went", "noor"), ("came", "noor")]
    assert {key["holder"] for key in stated["keys_after"]} >= {"maya", "noor", "modelsmith-harness"}
    runs = {run["runbook"]: run["steps"] for run in result["clone"]["runs"]}
    assert [step["call"] for step in runs["regression-response"]][:2] == ["status", "rollback"]
    assert runs["failed-training-triage"][-1]["error"] == "unknown-tag"
    assert {event["event"]["name"] for event in result["clone"]["events"]} >= {
        "promotion.advanced",
        "rollback.triggered",
    }


def test_it_holds_no_case_no_secret_and_no_address(audited):
    world, _, _ = audited
    text = b"".join(files(world.folder / "out").values()).decode()
    assert "ops@example.org" not in text
    assert "withheld" in text
    assert str(world.folder) not in text
    for path in (world.clone / "evals").rglob("held_out/*/*.yaml"):
        assert path.read_text().split("note: ")[-1].splitlines()[0] not in text


def test_the_same_range_of_the_same_main_gives_the_same_bytes(audited, tmp_path):
    world, until, result = audited
    again = audit(world, until, world.folder / "out")
    assert again["digest"] == result["digest"]
    other = world.copied_to(tmp_path / "other")
    offset = datetime.fromisoformat(until).astimezone(datetime.now().astimezone().tzinfo).isoformat()
    audit(other, offset, tmp_path / "out")
    first, second = files(world.folder / "out"), files(tmp_path / "out")
    assert first["audit.json"] == second["audit.json"] == canonical_json(result["audit"])
    assert first["audit.md"] == second["audit.md"]


def test_a_later_main_gives_the_same_bytes_for_a_range_that_is_over(audited, tmp_path):
    world, until, result = audited
    later = world.copied_to(tmp_path / "later")
    later.commit("notes", {"docs/notes.md": "Notes.\n"})
    number = str(must(later, 0, "pr", "open", "notes", "--title", "N", "--key", later.key("dana"))["pull"]["number"])
    must(later, 0, "approve", number, "--key", later.key("petra"))
    must(later, 0, "pr", "merge", number)
    assert audit(later, until)["digest"] == result["digest"]
    verified = must(later, 0, "verify", "--audit", str(world.folder / "out"))
    assert verified["audit"]["digest"] == result["digest"]


def test_a_range_is_half_open_and_has_to_be_over(audited):
    world, until, result = audited
    moments = [change["at"] for change in result["audit"]["changes"]]
    second = datetime.fromisoformat(moments[1])
    upto = audit(world, second.isoformat())["audit"]["changes"]
    after = audit(world, until, since=second.isoformat())["audit"]["changes"]
    assert [change["pull"] for change in upto] + [change["pull"] for change in after] == [
        change["pull"] for change in result["audit"]["changes"]
    ]
    assert audit(world, "2026-01-02")["audit"]["changes"] == []
    assert audit(world, "2999-01-01", code=2)["code"] == "range-not-over"
    for wrong in ("2025-13-01", "yesterday", "2026-01-02T00:00:00", "2025-12-31"):
        assert audit(world, wrong, code=2)["code"] == "bad-range"


def test_an_audit_is_written_over_no_other(audited):
    world, _, _ = audited
    assert audit(world, "2026-01-02", world.folder / "out", code=2)["code"] == "file-exists"


def test_a_bundle_holds_with_every_file_and_not_without(audited, tmp_path):
    world, _, result = audited
    folder = tmp_path / "bundle"
    shutil.copytree(world.folder / "out", folder)
    assert must(world, 0, "verify", "--audit", str(folder))["audit"]["digest"] == result["digest"]
    (folder / "audit.md").write_bytes((folder / "audit.md").read_bytes().replace(b"maya", b"noor"))
    assert must(world, 5, "verify", "--audit", str(folder))["code"] == "audit-does-not-hold"
    (folder / "audit.md").unlink()
    assert must(world, 2, "verify", "--audit", str(folder))["code"] == "bad-path"
    os.mkfifo(folder / "audit.md")
    assert must(world, 2, "verify", "--audit", str(folder))["code"] == "bad-path", "nobody waits for a pipe"


def test_a_main_that_does_not_verify_is_not_audited(audited, tmp_path):
    world, until, _ = audited
    broken = world.copied_to(tmp_path / "broken")
    broken.must("commit", "--quiet", "--allow-empty", "--message", "By nobody")
    assert audit(broken, until, code=5)["code"] == "history-does-not-hold"
