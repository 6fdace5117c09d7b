"""Attacks on what binds the steps of main: an opening to its change, a number, a predecessor and a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from attacker import HARNESS, NOBODY, PEOPLE_FILE, POLICY, RUBRIC, plain_git, refused
from worlds import MAIN

from modelsmith.forges.events import EVENT_FILE, EVENT_SIGNATURE
from modelsmith.forges.port import Proposal
from modelsmith.operations.verify import VerifyRequest, run
from modelsmith.promotion.openings import OPENING, OPENING_SIGNATURE
from modelsmith.promotion.receipts import receipts_folder
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.pull import SignedApproval, SignedEvent

NOTES = {"notes.md": b"harmless\n"}
OTHER = {"other.md": b"not what anybody opened\n"}


def opening(world, number):
    """The opening of a pull request, exactly as it was signed."""
    first = world.bare.text("rev-list", "--first-parent", world.pull_tip(number)).split()[-2]
    statement, signature = (world.bare.run("show", f"{first}:{name}") for name in (EVENT_FILE, EVENT_SIGNATURE))
    return SignedEvent(statement=statement.decode(), signature=signature.decode())


def approval(world, number, head, actor, **other):
    return world.review(actor, world.sign_with(actor, world.statement(actor, number, head, **other)))


def people_open(world):
    """Policy says that people open what is no promotion."""
    number = world.propose(
        {POLICY: world.governed().tree.read(POLICY) + b"people_open: true\n"}, "petra", "people-open"
    )
    world.approve(number, "paul")
    world.merge(number)


def without_key_of(world, person):
    """people.yaml as it is once somebody's key is stolen and revoked."""
    document = yaml.safe_load(world.governed().tree.read(PEOPLE_FILE))
    (person_entry,) = (entry for entry in document["people"] if entry["id"] == person)
    for key in person_entry["keys"]:
        key["revoked_at"] = "2026-01-01T00:00:00Z"
    return {PEOPLE_FILE: yaml.safe_dump(document, sort_keys=False).encode()}


def merged(world, files, opener, approver, branch):
    """An honest change on main."""
    number = world.propose(files, opener, branch)
    world.approve(number, approver)
    world.merge(number)
    return number


def test_an_opening_of_one_change_does_not_stand_for_another(fresh):
    """People open; Petra opened a note. Paul merges something of his own under her opening and approves it himself."""
    people_open(fresh)
    number = fresh.propose(NOTES, "petra")
    head, main = fresh.head(number), fresh.main()
    evil = fresh.commit(OTHER)
    own = approval(fresh, number, evil, "paul")
    signed = opening(fresh, number)
    merge = fresh.force(
        head, [own], pull=number, preparer="petra", requester="petra", opening=signed,
        tree=fresh.git.merge_tree(main, evil),
    )  # fmt: skip
    fresh.detected(merge, "opened for another change")


def unopened(world, merger):
    """Paul's own key for a friend, merged past the hook as what Petra opened, though nobody signed for opening it.

    He approves it himself. ``merger`` signs for the merge. Returns the merge.
    """
    policy = yaml.safe_load(world.governed().tree.read(POLICY))
    policy |= {"people_open": True}
    merged(world, {POLICY: yaml.safe_dump(policy, sort_keys=False).encode()}, "petra", "paul", "policy")
    document = yaml.safe_load(world.governed().tree.read(PEOPLE_FILE))
    friend = {"id": "zeta", "name": "Zeta", "roles": ["platform"], "keys": [{"key": world.public("mallory")}]}
    document["people"].append(friend)
    head = world.commit({PEOPLE_FILE: yaml.safe_dump(document, sort_keys=False).encode()})
    change = world.git.change(world.main(), world.git.merge_tree(world.main(), head))
    folder = receipts_folder(change, 9)
    left_out = {f"{folder}/{name}": None for name in (OPENING, OPENING_SIGNATURE)}
    own = approval(world, 9, head, "paul")
    return world.force(
        head, [own], pull=9, requester="petra", preparer="petra", opener="paul", merger=merger, more=left_out
    )


@pytest.mark.parametrize("merger", ["paul", HARNESS])
def test_whoever_merges_does_not_invent_who_opened_it(fresh, merger):
    """A person or the harness: at every forge somebody has signed for having opened it, and nobody's word is enough."""
    fresh.detected(unopened(fresh, merger), "nobody has signed for having opened")


def test_a_number_is_used_once(fresh):
    """Two different changes under one number: an approval of the one could be taken for one of the other."""
    for files in (NOTES, OTHER):
        head = fresh.commit(files)
        merge = fresh.force(head, [approval(fresh, 9, head, "paul")], pull=9)
    fresh.detected(merge, "uses pull request 9 a second time")


def test_a_change_that_main_has_moved_under_is_opened_again(fresh):
    """Both edit one file; they merge cleanly, but what would be merged is no longer what Petra opened."""
    lines = [b"%d\n" % number for number in range(40)]
    merged(fresh, {"notes.md": b"".join(lines)}, "petra", "paul", "base")
    last = fresh.propose({"notes.md": b"".join([*lines[:-1], b"last\n"])}, "petra", branch="last")
    merged(fresh, {"notes.md": b"".join([b"first\n", *lines[1:]])}, "petra", "paul", "first")
    fresh.approve(last, "paul")
    with refused("gate-closed") as errors:
        fresh.merge(last)
    assert "propose it again" in errors[0].message
    again = fresh.propose({"notes.md": b"".join([b"first\n", *lines[1:-1], b"last\n"])}, "petra", branch="last")
    assert again != last
    fresh.approve(again, "paul")
    fresh.merge(again)
    assert fresh.holds().changes == 3


def with_revocation(world, signed_before):
    """Main with a note that Dana opened and Paul approved, and before its merge the revocation of a stolen key.

    Both signed before the revocation was on main, or both after it. Returns main before all, and the note's number.
    """
    before, branch = world.main(), world.commit(NOTES)

    def proposed():
        proposal = Proposal(branch="notes", title="A note", body="", head=branch, base=before, requester="dana")
        number = world.as_("dana").open(proposal).number
        world.approve(number, "paul")
        return number

    number = proposed() if signed_before else None
    merged(world, without_key_of(world, "petra"), "paul", "petra", "revocation")
    number = number or proposed()
    world.merge(number)
    world.holds()
    return before, number


def kept_approval(world):
    """Paul's approval as the last receipts on main hold it."""
    path = next(p.path for p in world.bare.change(f"{MAIN}^", MAIN).paths if p.path.endswith("/approval-paul.json"))
    statement, signature = (world.bare.run("show", f"{MAIN}:{path}{end}").decode() for end in ("", ".sig"))
    return world.review("paul", SignedApproval(statement=statement, signature=signature))


def test_a_step_in_the_middle_cannot_be_left_out_with_the_disk_alone(fresh):
    """The revocation is cut out; what follows is merged into the main before it, with its receipts as they were."""
    before, number = with_revocation(fresh, signed_before=True)
    head, paths = fresh.head(number), fresh.bare.change(f"{MAIN}^", MAIN).paths
    receipts = {path.path: fresh.bare.read_blob(path.new_blob) for path in paths}
    fresh.fetch()
    merge = fresh.git.commit_tree(fresh.git.merge_tree(before, head), [before, head], "Merge\n", NOBODY)
    fresh.rewrite_on_disk(MAIN, fresh.git.commit_files(merge, receipts, "Receipts\n", NOBODY))
    fresh.detected(merge, "signed for another merge")


def test_a_step_cannot_be_left_out_where_people_signed_after_it(fresh):
    """With the harness's key: the merge is signed anew, then the opening, too; people name what they saw."""
    before, number = with_revocation(fresh, signed_before=False)
    head, paul, dana = fresh.head(number), kept_approval(fresh), opening(fresh, number)
    fresh.rewrite_on_disk(MAIN, before)
    merge = fresh.force(head, [paul], pull=number, preparer="dana", requester="dana", opening=dana)
    fresh.detected(merge, "opened on another main")
    fresh.rewrite_on_disk(MAIN, before)
    fresh.detected(fresh.force(head, [paul], pull=number), "that paul gave on another main")


@pytest.mark.xfail(
    strict=True, reason="neither: no person signed anything that saw the step, and the harness's key lies"
)
def test_a_step_that_no_person_signed_after_is_missed_by_a_fresh_clone(fresh):
    """With the harness's key, of a main on which people opened and approved before the revocation."""
    before, number = with_revocation(fresh, signed_before=True)
    head, paul, dana = fresh.head(number), kept_approval(fresh), opening(fresh, number)
    fresh.rewrite_on_disk(MAIN, before)
    fresh.detected(fresh.force(head, [paul], pull=number, preparer="dana", requester="dana", opening=dana))


def test_what_a_fresh_clone_cannot_know_an_older_one_or_a_tip_tells(fresh):
    """The same, and whoever saw the revocation refuses it, wherever they look from."""
    before, number = with_revocation(fresh, signed_before=True)
    known_tip, older = fresh.main(), fresh.plain_clone("older")
    head, paul, dana = fresh.head(number), kept_approval(fresh), opening(fresh, number)
    fresh.rewrite_on_disk(MAIN, before)
    clone = fresh.plain_clone("shorter")
    assert fresh.verify(clone, against=str(older)).compared[str(older)] == "newer"
    fresh.force(head, [paul], pull=number, preparer="dana", requester="dana", opening=dana)
    clone = fresh.plain_clone("forked", "--no-local")
    with refused("unknown-tip"):
        fresh.verify(clone, tip=known_tip)
    with refused("forked-main"):
        fresh.verify(clone, against=str(older))
    with refused("forked-main"):
        fresh.verify(clone, tip=known_tip)
    with refused("forked-main"):
        fresh.verify(older, against=str(fresh.forge))


def test_a_merge_that_nobody_listed_signed_for_is_found(fresh):
    """Receipts by whoever has the disk and no key of anybody; and by Petra in the harness's name."""
    main = fresh.main()
    head = fresh.commit(NOTES)
    vote = approval(fresh, 9, head, "paul")
    fresh.detected(fresh.force(head, [vote], pull=9, merger="mallory"), "a key that nobody here holds")
    fresh.rewrite_on_disk(MAIN, main)
    fresh.detected(fresh.force(head, [vote], pull=9, merger="petra", lie={"merged_by": HARNESS}), "petra signed that")


YEAR_9000 = datetime(9000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("what", ["opening", "approval", "merge"])
def test_a_date_in_the_year_9000_kills_no_key_and_no_rollback(fresh, monkeypatch, what):
    """Whoever has the disk and the harness's key dates one statement far ahead: that step is refused, for as long."""
    if what == "opening":
        monkeypatch.setattr("attacker.AT", YEAR_9000)
    head = fresh.commit(NOTES)
    vote = approval(fresh, 9, head, "paul", **({"at": YEAR_9000} if what == "approval" else {}))
    merge = fresh.force(head, [vote], pull=9, at=YEAR_9000 if what == "merge" else None)
    fresh.detected(merge, "which has not come yet")
    if what == "merge":
        number = fresh.propose(OTHER, "petra")
        with refused("from-the-future"):
            fresh.gate(number)


def test_receipts_dated_out_of_order_are_found(fresh):
    """An approval dated after its merge, and a merge dated before the one it follows."""
    main, hour = fresh.main(), timedelta(hours=1)
    now = datetime.now(UTC).replace(microsecond=0)
    head = fresh.commit(NOTES)
    vote = approval(fresh, 9, head, "paul", at=now)
    fresh.detected(fresh.force(head, [vote], pull=9, at=now - hour), "after its merge")
    fresh.rewrite_on_disk(MAIN, main)
    fresh.force(head, [vote], pull=9, at=now)
    head = fresh.commit(OTHER)
    vote = approval(fresh, 10, head, "paul", at=now - hour)
    fresh.detected(fresh.force(head, [vote], pull=10, at=now - hour), "comes after a merge at")


def trunk(world):
    """A tampered branch that the forge has clones check out."""
    commit = world.commit({"notes.md": b"tampered\n"})
    world.rewrite_on_disk("refs/heads/trunk", commit)
    world.bare.run("symbolic-ref", "HEAD", "refs/heads/trunk")
    return commit


def test_what_is_checked_out_is_what_is_verified(fresh):
    """The forge's HEAD leads to another branch: a clone of it gets no yes for main, and main only by its name."""
    evil, main = trunk(fresh), fresh.main()
    clone = fresh.plain_clone()
    with refused("no-main"):
        fresh.verify(clone)
    result = fresh.verify(clone, revision="origin/main")
    assert (result.tip, result.checked_out, result.revision) == (main, False, "refs/remotes/origin/main")
    plain_git("branch", "--quiet", "main", "origin/main", folder=clone)
    with refused("not-checked-out") as errors:
        fresh.verify(clone)
    assert errors[0].details["checked_out"] == evil
    assert not fresh.verify(clone, revision="main").checked_out
    plain_git("switch", "--quiet", "main", folder=clone)
    (clone / "README.md").write_text("edited\n")
    (clone / RUBRIC).unlink()
    (clone / "evals/planted.md").write_text("nobody approved it\n")
    (clone / "notes.md").write_text("of no kind that is governed\n")
    result = fresh.verify(clone)
    assert (result.checked_out, result.edited, result.revision) == (True, 3, MAIN)


def test_a_tag_does_not_stand_in_for_a_branch_that_is_gone(fresh):
    """Main is removed on the forge's disk, and a tag of its name put at honest history."""
    main = fresh.main()
    trunk(fresh)
    fresh.rewrite_on_disk("refs/tags/main", main)
    fresh.rewrite_on_disk(MAIN, None)
    with refused("no-main"):
        fresh.verify(fresh.plain_clone())


def test_a_branch_that_only_links_to_another_is_refused(fresh):
    """What is verified today would be another commit tomorrow; and pushing the other branch would move main."""
    clone = fresh.plain_clone()
    plain_git("branch", "--quiet", "trunk", folder=clone)
    plain_git("symbolic-ref", MAIN, "refs/heads/trunk", folder=clone)
    with refused("linked-branch"):
        fresh.verify(clone)
    fresh.rewrite_on_disk("refs/heads/trunk", fresh.main())
    fresh.bare.run("symbolic-ref", MAIN, "refs/heads/trunk")
    assert "protected-main" in fresh.push(f"{fresh.commit(NOTES)}:refs/heads/trunk").stderr


@pytest.mark.parametrize("root", ["", " ", "sha256:", "sha256:" + "A" * 64, "main"])
def test_an_empty_or_malformed_pin_is_no_yes(fresh, root):
    """`--root "$GOVERNANCE_ROOT"` with a variable that was never set; and a setting that somebody emptied."""
    workspace = Workspace(fresh.plain_clone(), fresh.folder / "no-home")
    with refused("bad-root") as errors:
        run(workspace, VerifyRequest(root=root))
    assert int(errors[0].exit) == 2
    plain_git("config", "modelsmith.root", root, folder=workspace.root)
    with refused("bad-root", "empty-setting"):
        run(workspace, VerifyRequest())
