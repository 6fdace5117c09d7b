"""The attacks of the other files once more, where the forge is GitHub: no hook of ours judges a push there.

The tests below that are imported are the very same; only the world differs. What they push goes to a server of GitHub's
shape, and each person's token may write everything that a contributor's may. What the gate decides from commits and
signatures alone (forms of a signature, keys, which owner a path has) is the same code there, and is not tried twice.
"""

# ruff: noqa: F811

from __future__ import annotations

from datetime import UTC, datetime

import yaml
from at_github import NAME, WorldAtGitHub, deployed, forced, fresh, github, moved, waiting  # noqa: F401
from attacker import HARNESS, PEOPLE_FILE, event_with, refused, signed_by
from github_server import Pull
from test_approvals import (  # noqa: F401
    test_a_file_added_after_the_approval_voids_it,
    test_a_rejection_is_not_lost_by_opening_the_same_again,
    test_an_approval_of_something_else_is_not_replayed,
    test_comments_approve_nothing,
    test_merging_is_not_approving,
    test_naming_somebody_else_as_requester_does_not_free_the_opener,
    test_the_harness_s_own_key_approves_nothing,
    test_the_requester_approves_nothing_of_their_own,
    test_the_same_change_under_another_number_needs_its_own_approval,
    test_where_people_open_a_change_handed_to_the_harness_is_refused,
    test_who_asks_for_a_promotion_by_its_record_does_not_approve_it,
)
from test_bindings import (  # noqa: F401
    test_a_change_that_main_has_moved_under_is_opened_again,
)
from test_closing import (  # noqa: F401
    test_a_branch_of_the_same_name_closes_nobody_else_s_pull_request,
    test_its_opener_and_its_owners_close_a_pull_request,
    test_naming_somebody_as_requester_takes_no_approval_away,
    test_one_person_has_a_few_pull_requests_open_at_a_time,
    test_two_people_may_propose_the_same_commit,
    test_what_cannot_be_read_is_closed_by_whoever_may,
    test_whoever_neither_opened_it_nor_decides_about_it_does_not_close_it,
    test_whom_the_harness_names_as_requester_does_not_approve,
)
from test_governance import (  # noqa: F401
    test_a_harness_cannot_merge_what_policy_does_not_leave_to_it,
    test_a_harness_configured_to_be_a_person_signs_as_itself,
    test_governance_mixed_with_a_promotion_is_refused,
)
from test_refs import (  # noqa: F401
    test_a_review_log_removed_on_disk_is_found_by_every_clone_that_saw_it,
    test_a_review_log_rewound_on_disk_is_found_by_every_clone_that_saw_it,
    test_main_rewound_on_disk_is_found_by_every_clone_that_saw_more,
)
from test_rollbacks import (  # noqa: F401
    test_what_a_rollback_makes_pointless_is_closed_with_the_reason,
)
from test_screens import (  # noqa: F401
    test_a_reason_that_steers_a_terminal_is_refused_at_the_forge,
    test_words_that_steer_a_terminal_are_refused_at_the_forge,
)
from test_second_looks import (  # noqa: F401
    test_a_pull_request_of_a_merged_head_is_not_shown_as_merged,
)

from modelsmith.schema.pull import PullEvent


def test_what_is_forged_in_a_log_counts_for_nothing(waiting: WorldAtGitHub) -> None:
    """An approval replayed after its withdrawal, by the harness's key: the log is read, and nobody merges on it."""
    honest = signed_by(waiting, "maya")
    waiting.as_("maya").review(4, honest.proof)
    waiting.as_("maya").review(4, waiting.sign_with("maya", waiting.statement("maya", 4, verdict="withdraw")))
    forced(waiting, event_with(waiting, "maya", honest.proof, key=HARNESS))
    with refused("forged-event"):
        waiting.merge(4)


def test_a_log_that_names_another_head_is_not_believed(waiting: WorldAtGitHub) -> None:
    """Maya approved one commit; the log is written anew to be about another, and its branch is moved there."""
    approval = signed_by(waiting, "maya")
    waiting.as_("maya").review(4, approval.proof)
    grown = waiting.commit({"promotions/note.md": b"x"}, waiting.head(4))
    forge = waiting.logs(HARNESS)
    first = forge._reader.log(waiting.pull_tip(4))[0].event
    forced(waiting, forge._commit(first.model_copy(update={"head": grown}), None, (forge._root(), grown)))
    with refused("rewound-forge"):
        waiting.merge(4)
    waiting.detected(waiting.force(grown, [approval]))


def approved(fresh: WorldAtGitHub) -> tuple[int, Pull]:
    """What Maya opened and Petra approved, where main knows everybody's login."""
    people = yaml.safe_load(fresh.governed().tree.read(PEOPLE_FILE))
    for person in people["people"]:
        person["logins"] = {"github": f"{person['id']}-gh"}
    fresh.force_honestly({PEOPLE_FILE: yaml.safe_dump(people, sort_keys=False).encode()}, "petra")
    number = fresh.propose({"notes.md": b"A note.\n"}, "maya")
    fresh.approve(number, "petra")
    return number, fresh.server.repos[NAME].pulls[number]


def test_a_no_in_the_forge_s_pages_stops_the_merge_before_it_is_attested(fresh: WorldAtGitHub) -> None:
    """Paul asks for changes with GitHub's button and the harness dismisses that: only Paul takes it back."""
    number, pull = approved(fresh)
    repo = fresh.server.repos[NAME]
    no = fresh.server.reviewed(repo, pull, "paul-gh", "REQUEST_CHANGES")
    with refused("gate-closed") as caught:
        fresh.merge(number)
    assert "paul owns notes.md and asked for changes at the forge" in caught[0].message
    fresh.server.dismissed(pull, no, "harness-gh")
    with refused("gate-closed"):
        fresh.merge(number)
    fresh.server.reviewed(repo, pull, "paul-gh", "APPROVE")
    assert fresh.merge(number).status == "merged"
    fresh.holds()


def test_a_no_in_the_forge_s_pages_holds_back_the_receipts_of_its_button(fresh: WorldAtGitHub) -> None:
    """Paul asks for changes, the harness presses GitHub's button all the same; a no after the merge is too late."""
    number, pull = approved(fresh)
    repo = fresh.server.repos[NAME]
    no = fresh.server.reviewed(repo, pull, "paul-gh", "REQUEST_CHANGES")
    fresh.server.merged(repo, pull)
    with refused("merged-past-gate") as caught:
        fresh.merge(number)
    assert "paul owns notes.md and asked for changes at the forge" in caught[0].message
    fresh.detected(saying="without receipts")
    no["submitted_at"] = "2099-01-01T00:00:00Z"
    assert fresh.merge(number).status == "merged"
    fresh.holds()


def opening(world: WorldAtGitHub, number: int, signer: str, at: datetime | None = None) -> str:
    """The commit that opens a pull request in Petra's name, written by hand and signed with somebody's key."""
    world.as_("petra").fetch_into(world.git)
    log = world.as_("petra", signer)._logs
    head = world.commit({"notes.md": b"A note.\n"})
    change = world.git.change(world.main(), world.git.merge_tree(world.main(), head)).digest()
    event = PullEvent(
        repository=world.governed().policy.repository, pull=number, kind="opened", actor="petra", head=head,
        base=world.main(), change=change, at=at or datetime.now(UTC).replace(microsecond=0), previous=None,
        branch="notes", title="A note", requester="petra",
    )  # fmt: skip
    return log._commit(event, None, (log._root(), head))


def test_numbers_that_somebody_took_beforehand_keep_nobody_from_proposing(fresh: WorldAtGitHub) -> None:
    """A file, an opening that nobody listed has signed, another number's log, a ref beneath; one that is gone again."""
    junk = fresh.git.text("hash-object", "-w", "--stdin", input=b"x")
    forged = opening(fresh, 2, "mallory")
    for ref, commit in (("1", junk), ("2", forged), ("3", forged), ("4/x", fresh.main())):
        forced(fresh, commit, f"refs/modelsmith/pulls/{ref}")
    beneath = "refs/modelsmith/pulls/5/x"
    forced(fresh, fresh.main(), beneath)
    fresh.as_("maya").fetch_into(fresh.git)
    assert fresh.push(f":{beneath}").returncode == 0
    number = fresh.propose({"notes.md": b"A note.\n"}, "maya")
    assert number == 5
    fresh.approve(number, "petra")
    assert fresh.merge(number).status == "merged"
    assert fresh.holds().changes == 1


def test_an_opening_that_is_dated_before_its_number_opens_nothing(fresh: WorldAtGitHub) -> None:
    """Petra's key has ended; whoever has it dates the opening back to when it counted. Control: one of today."""
    for number, at in ((1, datetime(2025, 12, 31, 23, tzinfo=UTC)), (2, None)):
        commit = opening(fresh, number, "petra", at)
        head = fresh.git.text("rev-parse", f"{commit}^2")
        forced(fresh, head, f"refs/heads/notes-{number}")
        forced(fresh, commit, f"refs/modelsmith/pulls/{number}")
        fresh.server.opened(fresh.server.repos[NAME], "petra-gh", f"notes-{number}", "A note")
        assert fresh.as_("petra").get(number).status == "open"
    assert "before the forge had numbered it" in fresh.refusals(1)
    assert fresh.refusals(2) == ""
