"""A first commit brings what a second takes away again: no diff shows it, and it would be on main for good."""

from __future__ import annotations

import pytest
from attacker import MAIN, NOBODY, POLICY
from worlds import CLUSTER

from modelsmith.repository.listing import REGULAR, SUBMODULE, SYMLINK

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


PLACES = {
    "a machine's program": (".venv/bin/python", REGULAR, "may not be committed"),
    "what steers git": (".gitattributes", REGULAR, "may not be committed"),
    "a record": ("promotions/x/record.json", REGULAR, "brought and taken away"),
    "a receipt": (".github/governance/receipts/9/merge.json", REGULAR, "receipts are written by the merge"),
    "a link for a governed file": (f"clusters/{CLUSTER}/cluster.yaml", SYMLINK, "is a link or submodule"),
    "a submodule": ("vendor", SUBMODULE, "is a submodule"),
    "a name that nobody sees": ("docs/a\u200bb.md", REGULAR, "invisible"),
    "a path too long for a clone": ("docs/" + "a" * 230, REGULAR, "has a name longer"),
}


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
@pytest.mark.parametrize("name", PLACES)
def test_an_earlier_commit_puts_nothing_where_the_last_could_not(fresh, name, known):
    """Whatever it holds: a content that main has already, or the last commit shows, stands there all the same."""
    path, mode, saying = PLACES[name]
    page = fresh.git.text("rev-parse", f"{fresh.commit({'docs/page.md': b'A page.'})}:docs/page.md")
    main = fresh.main()
    blob = fresh.git.text("rev-parse", f"{main}:{POLICY}") if known else page
    first = fresh.commit_entry(path, mode, main if mode == SUBMODULE else blob)
    tree = fresh.git.text("rev-parse", f"{fresh.commit({'docs/page.md': b'A page.'})}^{{tree}}")
    head = fresh.git.commit_tree(tree, [first], "A page\n", NOBODY)
    decision = fresh.gate(fresh.open(head, "petra")).decision
    assert [check.name for check in decision.checks if not check.passed] == ["earlier-commits"]
    (sentence,) = [refusal.sentence for refusal in decision.refusals]
    assert saying in sentence
    assert first[:12] in sentence
    fresh.force(head, pull=9, requester="petra", preparer="petra")
    fresh.detected(saying=saying)


def test_a_merge_of_main_in_between_is_nobody_s_draft(candidate):
    """The control: what a branch takes over from main, records included, it does not bring."""
    begin = candidate.bare.first_parent_log(MAIN)[0].id
    first = candidate.commit({"docs/page.md": b"Draft.\n"}, begin)
    merged = candidate.git.commit_tree(
        candidate.git.merge_tree(candidate.main(), first), [first, candidate.main()], "Merge\n", NOBODY
    )
    head = candidate.commit({"docs/page.md": b"A page.\n"}, merged)
    assert not [check for check in candidate.gate(candidate.open(head, "petra")).decision.checks if not check.passed]


def test_honest_drafts_close_nothing(fresh):
    """The control: more than one commit, and nothing in any of them that may not stand on main."""
    head = in_two_steps(fresh, "docs/draft.md", b"A draft that was thrown away.\n")
    assert not [check for check in fresh.gate(fresh.open(head, "petra")).decision.checks if not check.passed]
    policy = fresh.governed().tree.read(POLICY)
    once = fresh.commit({"docs/more.md": b"More.\n", "docs/page.md": policy})
    assert not [
        check for check in fresh.gate(fresh.open(once, "petra", branch="b")).decision.checks if not check.passed
    ]
