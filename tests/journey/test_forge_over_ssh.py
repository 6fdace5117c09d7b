"""The forge is another user's, on another host; the same commands reach it by its URL."""

from __future__ import annotations

import pytest


@pytest.mark.usefixtures("installed_hook")
def test_approve_merge_and_the_next_step_work_through_the_forge_s_url(waiting):
    reach = waiting.folder / "reach"
    reach.write_text('#!/bin/sh\nexec sh -c "$2"\n')
    reach.chmod(0o755)
    over_ssh = waiting.environment() | {"GIT_SSH": str(reach), "GIT_SSH_VARIANT": "simple"}
    waiting.must("config", "modelsmith.forge", f"ssh://forge@forge.example{waiting.forge}")

    def run(*words):
        return waiting.modelsmith(*words, "--json", env=over_ssh)

    findings = {finding["subject"]: finding["sentence"] for finding in run("doctor").json["findings"]}
    assert findings["deployment"].startswith("forge on another user or host")
    assert findings["forge"] == f"at ssh://forge.example{waiting.forge}", "no user name is shown"

    assert run("pr", "merge", "4").code == 4, "the gate is shut"
    for words in (("approve", "4", "--key", waiting.key("maya")), ("pr", "merge", "4"), ("verify",), ("status",)):
        result = run(*words)
        assert result.code == 0, result.out
    assert waiting.main() == waiting.git.rev("main"), "main moved over there and here"
    specialist = waiting.state()["specialist"]
    promoted = run("promote", "rtb-pricing", specialist)
    assert (promoted.code, promoted.json["event"]) == (4, "production-validated")
