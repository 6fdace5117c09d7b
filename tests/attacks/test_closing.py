"""Who may end somebody's pull request, and who may take somebody's approval away."""

from __future__ import annotations

import pytest
from attacker import HARNESS, refused
from worlds import MAIN

NOTES = {"notes.md": b"by Petra\n"}


def test_a_branch_of_the_same_name_closes_nobody_else_s_pull_request(fresh):
    """Oli opens another change under the name of Petra's branch: both stand, and Petra's is merged."""
    fresh.hook(True)
    first = fresh.propose(NOTES, "petra", branch="notes")
    fresh.approve(first, "paul")
    second = fresh.propose({"other.md": b"by Oli\n"}, "oli", branch="notes")
    assert (second, fresh.as_("oli").get(first).status) == (first + 1, "open")
    assert fresh.merge(first).status == "merged"
    again = fresh.propose({"other.md": b"by Oli, again\n"}, "oli", branch="notes")
    assert (again, fresh.as_("oli").get(second).status) == (second + 1, "closed"), "one's own is superseded"


def test_two_people_may_propose_the_same_commit(fresh):
    """Whoever opened it first is not the only one whose pull request can be merged."""
    fresh.hook(True)
    head = fresh.commit(NOTES)
    fresh.open(head, "oli", branch="notes")
    second = fresh.open(head, "petra", branch="notes")
    fresh.approve(second, "paul")
    assert fresh.merge(second).status == "merged"
    fresh.holds()


def test_whoever_neither_opened_it_nor_decides_about_it_does_not_close_it(fresh):
    """Oli and the harness may not close what Petra opened for the platform."""
    fresh.hook(True)
    number = fresh.propose(NOTES, "petra")
    for actor in ("oli", "dana", HARNESS):
        with refused("not-yours-to-close"):
            fresh.as_(actor).close(number, "I do not like it")
    assert fresh.as_("oli").get(number).status == "open"


@pytest.mark.parametrize("actor", ["petra", "paul"])
def test_its_opener_and_its_owners_close_a_pull_request(fresh, actor):
    """The control of the one above: Paul owns what it changes."""
    fresh.hook(True)
    number = fresh.propose(NOTES, "petra")
    assert fresh.as_(actor).close(number, "not needed").status == "closed"


def closed_with_a_merge_in_hand(world, elsewhere):
    """Petra closes what Paul had approved, while somebody holds a merge of it that was good before. Returns that."""
    number = world.propose(NOTES, "petra")
    world.approve(number, "paul")
    copy = world.copied_to(elsewhere)
    assert copy.merge(number).status == "merged"
    world.git.run("fetch", "--quiet", "--no-tags", str(copy.forge), MAIN)
    assert world.as_("petra").close(number, "not needed").status == "closed"
    return copy.main()


def test_a_merge_that_was_made_before_the_closing_is_refused_after_it(fresh, tmp_path):
    """Every approval counts and every signature holds; only the review log says that it was closed."""
    tip = closed_with_a_merge_in_hand(fresh, tmp_path / "elsewhere")
    done = fresh.push(f"{tip}:{MAIN}")
    assert done.returncode
    assert "No open pull request has this head" in done.stderr


@pytest.mark.xfail(strict=True, reason="neither: a closing stands in the review log, and nothing of it on main")
def test_a_closed_pull_request_merged_past_the_hook_is_detected(fresh, tmp_path):
    """The merge that the hook refuses, written to the forge's disk."""
    fresh.rewrite_on_disk(MAIN, closed_with_a_merge_in_hand(fresh, tmp_path / "elsewhere"))
    fresh.detected()


def test_naming_somebody_as_requester_takes_no_approval_away(fresh):
    """Petra opens a change and says that Paul asked for it: he never signed that, and decides all the same."""
    number = fresh.open(fresh.commit(NOTES), "petra", requester="paul")
    assert "names paul as having asked" in " ".join(fresh.gate(number).decision.notes)
    fresh.approve(number, "petra")
    assert fresh.gate(number).decision.approvers == (), "who opens it never approves it"
    fresh.approve(number, "paul")
    assert fresh.merge(number).status == "merged"
    fresh.holds()


def test_whom_the_harness_names_as_requester_does_not_approve(fresh):
    """The control of the one above: the harness says who asked it, and approves nothing itself."""
    number = fresh.open(fresh.commit(NOTES), requester="paul")
    fresh.approve(number, "paul")
    with refused("approval-missing"):
        fresh.merge(number)
