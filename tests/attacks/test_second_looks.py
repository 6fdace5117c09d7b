"""Attacks on what is looked at beside main: whose merge it is, and a second source."""

from __future__ import annotations

from datetime import UTC, datetime

from attacker import MAIN, NOBODY, Git, refused

from modelsmith.forges.events import new_event

NOTES = {"notes.md": b"harmless\n"}


def merge_in_hand(world, elsewhere):
    """An approved pull request that Petra opened, still open, and the merge of it that the gate allows."""
    number = world.propose(NOTES, "petra")
    world.approve(number, "paul")
    copy = world.copied_to(elsewhere)
    copy.merge(number)
    world.git.run("fetch", "--quiet", "--no-tags", str(copy.forge), MAIN)
    return number, copy.main()


def closing(world, number):
    """The opener's event that closes it."""
    forge = world.as_("petra")
    forge.fetch_into(world.git)
    last = forge._reader.log(world.pull_tip(number))[-1]
    now = datetime.now(UTC).replace(microsecond=0)
    return forge._commit(new_event(last, "closed", "petra", now, world.main()), None, (last.commit,))


def test_what_main_has_merged_is_shown_as_merged_whatever_its_log_says(fresh, tmp_path):
    """Past the hook, or by two pushes at one moment, the log says closed; main is what counts."""
    number, tip = merge_in_hand(fresh, tmp_path / "elsewhere")
    closed = closing(fresh, number)
    fresh.rewrite_on_disk(MAIN, tip)
    fresh.rewrite_on_disk(f"refs/modelsmith/pulls/{number}", closed)
    assert fresh.as_("oli").get(number).status == "merged"
    fresh.holds()


def test_a_pull_request_of_a_merged_head_is_not_shown_as_merged(fresh, tmp_path):
    """Dana opens what Petra's merged pull request proposed, under a title that nobody approved."""
    number = fresh.propose(NOTES, "petra")
    fresh.approve(number, "paul")
    second = fresh.open(fresh.head(number), "dana", branch="other")
    fresh.merge(number)
    statuses = {pull.number: pull.status for pull in fresh.as_("oli").list()}
    assert statuses[number] == "merged" != statuses[second]
    with refused("gate-closed", "closed"):
        fresh.merge(second)
    assert fresh.as_("dana").close(second, "not needed").status == "closed"


def test_a_damaged_second_source_leaves_the_clone_as_it_was(fresh):
    """Its main holds a tree that git finds damaged; compared with once, it would stay in the clone for ever."""
    clone, other = fresh.plain_clone(), fresh.plain_clone("poisoned")
    git = Git(other)
    blob = git.text("hash-object", "-w", "--stdin", input=b"x")
    raw = b"".join(b"100644 " + name + b"\0" + bytes.fromhex(blob) for name in (b"z", b"a", b"a"))
    tree = git.text("hash-object", "-t", "tree", "-w", "--literally", "--stdin", input=raw)
    git.run("update-ref", MAIN, git.commit_tree(tree, [fresh.main()], "x\n", NOBODY))
    with refused("git-failed"):
        fresh.verify(clone, against=str(other))
    assert fresh.verify(clone).verified
    assert fresh.verify(clone, against=str(fresh.forge)).compared[str(fresh.forge)] == "same"
