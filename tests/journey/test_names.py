"""Names of people are taken out of records by the model that policy names, and without it nothing is captured."""

from __future__ import annotations

import json

import yaml
from tiny import commit_to_root, write_tiny_name_finder

from modelsmith.repository.git import Git

POLICY = ".github/governance/policy.yaml"


def test_without_the_model_that_finds_names_nothing_is_captured(fresh, tmp_path):
    folder = tmp_path / "tiny-names"
    digest = write_tiny_name_finder(folder)
    path = fresh.clone / POLICY
    policy = yaml.safe_load(path.read_text())
    model = {"name": "tiny-names", "uri": f"file://{folder}", "digest": digest, "license": "Apache-2.0"}
    policy["private"] = {"names": model}
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    commit_to_root(fresh.clone, fresh.forge)
    assert fresh.modelsmith("validate").code == 0

    def looked_at():
        findings = fresh.modelsmith("doctor", "--json").json["findings"]
        return [finding["level"] for finding in findings if finding["subject"] == "model tiny-names of names"]

    assert looked_at() == ["ok"]

    def captured(prompt):
        record = {"prompt": prompt, "answer": "so says Okonkwo", "outcome": "late for Marta"}
        (fresh.folder / "records.jsonl").write_text(f"{json.dumps(record)}\n")
        return fresh.modelsmith("capture", str(fresh.folder / "records.jsonl"), "--json")

    captured_failure = captured("Why did bids of Marta Okonkwo end late, id TWFydGEgT2tvbmt3bw== ?").json
    assert captured_failure["removed"] == {"name": 4}
    content = Git(fresh.forge).text("show", f"{captured_failure['pull']['head']}:{captured_failure['path']}")
    assert json.loads(content)["messages"][0]["content"] == "Why did bids of [name] end late, id [name] ?"
    assert not [word for word in ("Marta", "Okonkwo", "TWFydGE") if word in content]
    before = fresh.pulls()

    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    changed = captured("Why were the bids of Marta late?")
    assert (changed.code, changed.json["code"]) == (5, "base-model-digest")
    folder.rename(tmp_path / "away")
    missing = captured("Why were the bids of Marta late?")
    assert (missing.code, missing.json["code"]) == (6, "names-missing")
    assert looked_at() == ["bad"]
    assert fresh.pulls() == before
