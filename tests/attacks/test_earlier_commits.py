"""A first commit brings what a second takes away again: no diff shows it, and it would be on main for good."""

from __future__ import annotations

import pytest
from attacker import POLICY

KEY = (
    b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
    + b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU" * 8
    + b"\n-----END OPENSSH PRIVATE KEY-----\n"
)
HARMFUL = {
    "a private key": ("docs/notes.md", KEY, "looks like a secret"),
    "a token": (
        "docs/notes.md",
        b"token: ghp_" + b"A8kd93Kfj2LsQ0vXz7" + b"Bn4MwTy6Rc1Pe5Uh3G\n",
        "looks like a secret",
    ),
    "a machine's program": (".venv/bin/python", b"#!/bin/sh\n", "may not be committed"),
    "what steers git": ("docs/.gitattributes", b"* filter=x\n", "may not be committed"),
    "a large file": ("docs/large.bin", b"\0" * (33 << 20), "bytes, above"),
}


def in_two_steps(world, path, data):
    """The last commit says only that a page is new."""
    first = world.commit({path: data, "docs/page.md": b"Draft.\n"})
    return world.commit({path: None, "docs/page.md": b"A page.\n"}, first)


@pytest.mark.parametrize("name", HARMFUL)
def test_what_only_an_earlier_commit_holds_closes_the_gate(fresh, name):
    """What the change is asked is asked of all that comes onto main with it."""
    path, data, saying = HARMFUL[name]
    decision = fresh.gate(fresh.open(in_two_steps(fresh, path, data), "petra")).decision
    assert [check.name for check in decision.checks if not check.passed] == ["earlier-commits"]
    assert any(saying in refusal.sentence and "one commit" in refusal.sentence for refusal in decision.refusals)


def test_honest_drafts_close_nothing(fresh):
    """The control: more than one commit, and nothing in any of them that may not stand on main."""
    head = in_two_steps(fresh, "docs/draft.md", b"A draft that was thrown away.\n")
    assert not [check for check in fresh.gate(fresh.open(head, "petra")).decision.checks if not check.passed]
    policy = fresh.governed().tree.read(POLICY)
    once = fresh.commit({"docs/more.md": b"More.\n", "docs/page.md": policy})
    assert not [
        check for check in fresh.gate(fresh.open(once, "petra", branch="b")).decision.checks if not check.passed
    ]
