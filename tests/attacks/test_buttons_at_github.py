"""What came onto main at GitHub without the toolkit, and whoever wants receipts for it."""

# ruff: noqa: F811

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from at_github import NAME, WorldAtGitHub, forced, fresh, github  # noqa: F401
from attacker import MAIN, NOBODY, refused
from github_server import Pull

from modelsmith.forges.events import new_event
from modelsmith.operations import pr_receipts


def receipts(world: WorldAtGitHub) -> list[int]:
    """`modelsmith pr receipts`, as the workflow runs it on the harness's machine."""
    result = pr_receipts.run(world.workspace, pr_receipts.PrReceiptsRequest())
    return [pull.number for pull in result.pulls]


def approved(world: WorldAtGitHub, branch: str = "notes") -> tuple[int, Pull]:
    """What Maya opened and Petra approved."""
    number = world.propose({f"{branch}.md": b"A note.\n"}, "maya", branch=branch)
    world.approve(number, "petra")
    return number, world.server.repos[NAME].pulls[number]


def moved_on(world: WorldAtGitHub, pull: Pull, files: dict[str, bytes | None]) -> None:
    """The pull request's branch holds one commit more than was opened."""
    top = world.commit(files, pull.sha)
    forced(world, top, f"refs/heads/{pull.head_ref}")
    world.server._reconcile(world.server.repos[NAME])
    assert pull.sha == top


def branch_that_moved(world: WorldAtGitHub, pull: Pull) -> None:
    moved_on(world, pull, {"more.md": b"And more.\n"})
    world.server.merged(world.server.repos[NAME], pull)


def branch_that_got_an_empty_commit(world: WorldAtGitHub, pull: Pull) -> None:
    """Main gets the very tree that was approved, by a commit that nobody opened."""
    moved_on(world, pull, {})
    world.server.merged(world.server.repos[NAME], pull)


def squash(world: WorldAtGitHub, pull: Pull) -> None:
    squashed = world.commit({"notes.md": b"A note.\n"})
    forced(world, squashed, MAIN)


def many_parents(world: WorldAtGitHub, pull: Pull) -> None:
    main, other = world.main(), world.commit({"more.md": b"And more.\n"})
    tree = world.git.merge_tree(main, pull.sha)
    forced(world, world.git.commit_tree(tree, [main, pull.sha, other], "Merge\n", NOBODY), MAIN)


@pytest.mark.parametrize("way", [branch_that_moved, branch_that_got_an_empty_commit, squash, many_parents])
def test_what_nobody_opened_is_told_as_merged_past_the_gate(
    fresh: WorldAtGitHub, way: Callable[[WorldAtGitHub, Pull], None]
) -> None:
    """No log knows what main holds now. That nothing can be given for it is no reason to say that all is well."""
    before, _ = approved(fresh, "before")
    number, pull = approved(fresh)
    fresh.server.merged(fresh.server.repos[NAME], fresh.server.repos[NAME].pulls[before])
    way(fresh, pull)
    with refused("merged-past-gate") as caught:
        receipts(fresh)
    assert "no receipts can be given for it" in caught[0].message
    fresh.detected(at=str(caught[0].details["commit"]))
    assert fresh.as_("maya").get(before).unreceipted is False, "what came before it has its receipts"
    with refused("merged-past-gate", "branch-moved", "gate-closed"):
        fresh.merge(number)
    with refused("merged-past-gate"):
        receipts(fresh)


def closed_by_its_opener(world: WorldAtGitHub, pull: Pull) -> None:
    world.as_("maya").close(pull.number, "I was wrong.")


def closed_in_the_pages(world: WorldAtGitHub, pull: Pull) -> None:
    pull.state = "closed"


def closed_and_opened_again_in_the_pages(world: WorldAtGitHub, pull: Pull) -> None:
    closed_by_its_opener(world, pull)
    pull.state = "open"


def made_a_draft(world: WorldAtGitHub, pull: Pull) -> None:
    pull.draft = True


def moved_elsewhere(world: WorldAtGitHub, pull: Pull) -> None:
    """Its opener has replaced what was approved."""
    other = world.commit({"notes.md": b"Another note.\n"})
    forced(world, other, f"refs/heads/{pull.head_ref}")
    world.server._reconcile(world.server.repos[NAME])


def merged_by_a_twin(world: WorldAtGitHub, pull: Pull, commit: str) -> None:
    """What was approved is opened in GitHub's pages from another branch, and merged by the button."""
    forced(world, commit, "refs/heads/twin")
    repo = world.server.repos[NAME]
    repo.issues = max(repo.issues, pull.number)
    world.server.merged(repo, world.server.opened(repo, "oli-gh", "twin", "A note"))
    world.server._reconcile(repo)


@pytest.mark.parametrize(
    "way",
    [closed_by_its_opener, closed_in_the_pages, closed_and_opened_again_in_the_pages, made_a_draft, moved_elsewhere],
)
def test_what_was_withdrawn_gets_no_receipts_by_a_merged_twin(
    fresh: WorldAtGitHub, way: Callable[[WorldAtGitHub, Pull], None]
) -> None:
    """The same commit is opened in GitHub's pages from another branch and merged: the approvals were of the first."""
    _, pull = approved(fresh)
    commit = pull.sha
    way(fresh, pull)
    merged_by_a_twin(fresh, pull, commit)
    with refused("merged-past-gate"):
        receipts(fresh)
    fresh.detected(saying="without receipts")


def test_a_closing_in_the_second_of_the_merge_counts_as_before_it(fresh: WorldAtGitHub) -> None:
    """GitHub and the log tell whole seconds: which came first cannot be told, and doubt gives no receipts."""
    number, pull = approved(fresh)
    closed_and_opened_again_in_the_pages(fresh, pull)
    merged_by_a_twin(fresh, pull, pull.sha)
    closed = fresh.logs("maya").closed_at(number)
    assert closed is not None
    pull.merged_at = closed.strftime("%Y-%m-%dT%H:%M:%SZ")
    with refused("merged-past-gate"):
        receipts(fresh)


@pytest.mark.parametrize("who", ["oli", "maya"])
def test_a_closing_after_the_merge_holds_back_no_receipts(fresh: WorldAtGitHub, who: str) -> None:
    """By a stranger, who could have closed nothing, whenever they say that it was; by its opener, who came too late."""
    number, pull = approved(fresh)
    fresh.server.merged(fresh.server.repos[NAME], pull)
    log = fresh.logs(who)
    last = log._reader.log(fresh.pull_tip(number))[-1]
    at = last.event.at if who == "oli" else datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    event = new_event(last, "closed", who, at, fresh.main())
    forced(fresh, log._commit(event, None, (last.commit,)), f"refs/modelsmith/pulls/{number}")
    assert receipts(fresh) == [number]
    fresh.holds()


def test_main_moved_back_behind_what_had_no_receipts_is_followed(fresh: WorldAtGitHub) -> None:
    """It is the one mend of a main merged past its gate. Whoever saw the bad main would else refuse the good one."""
    number, _ = approved(fresh)
    assert fresh.merge(number).status == "merged"
    good = fresh.main()
    forced(fresh, fresh.commit({"past.md": b"The gate.\n"}), MAIN)
    with refused("merged-past-gate"):
        receipts(fresh)
    forced(fresh, good, MAIN)
    forced(fresh, fresh.commit({"past.md": b"Again, before anybody looked.\n"}), MAIN)
    with refused("merged-past-gate"):
        receipts(fresh)
    forced(fresh, good, MAIN)
    assert receipts(fresh) == []
    again, _ = approved(fresh, "again")
    assert fresh.merge(again).status == "merged"
    fresh.holds()


def test_a_rewind_that_loses_receipts_is_none_to_follow(fresh: WorldAtGitHub) -> None:
    """Nor where a step removed them from main's tree before: every step that is taken back is asked."""
    before = fresh.main()
    number, _ = approved(fresh)
    assert fresh.merge(number).status == "merged"
    forced(fresh, fresh.commit(dict.fromkeys(receipts_of(fresh))), MAIN)
    with refused("merged-past-gate"):
        receipts(fresh)
    forced(fresh, before, MAIN)
    with refused("rewound-forge"):
        receipts(fresh)


def receipts_of(world: WorldAtGitHub) -> list[str]:
    """Files that receipts are read from, on main."""
    return [path for path in world.governed().tree.paths(".github/governance/receipts") if path.endswith("/merge.json")]
