"""Attacks on refs: pushes past the gate, past the hook and past git itself, and the logs of reviews."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attacker import HARNESS, MAIN, NOBODY, ZERO, plain_git, refused

from modelsmith.forges.events import new_event
from modelsmith.forges.local import LocalForge
from modelsmith.forges.mirror import Mirror
from modelsmith.forges.reader import Reader
from modelsmith.operations import pr_list
from modelsmith.repository.git import Git
from modelsmith.signing import ssh

PULL = "refs/modelsmith/pulls/4"


def quick_fix(world):
    return world.commit({"notes.md": b"quick fix\n"})


def turned_away(world, word, *refspecs, **environment):
    before = world.bare.text("for-each-ref")
    result = world.push(*refspecs, **environment)
    assert result.returncode, result.stderr
    assert word in result.stderr, result.stderr
    assert world.bare.text("for-each-ref") == before


@pytest.mark.usefixtures("installed_hook")
def test_an_honest_merge_is_pushed_through_the_hook(waiting):
    """The control of this file: the hook is there, and lets through what the gate allows."""
    waiting.hook(True)
    waiting.approve(4, "maya")
    assert waiting.merge(4).status == "merged"
    assert waiting.holds().changes == 4


@pytest.mark.usefixtures("installed_hook")
def test_a_direct_push_to_main_is_refused(waiting):
    """Forward, back, away and anew: main moves by merges only."""
    fix, main = quick_fix(waiting), waiting.main()
    turned_away(waiting, "protected-main", f"{fix}:{MAIN}")
    turned_away(waiting, "", f"{main}~2:{MAIN}")
    turned_away(waiting, "", f":{MAIN}")
    merge = waiting.git.commit_tree(f"{fix}^{{tree}}", [main, fix], "Merge pull request 4\n", NOBODY)
    turned_away(waiting, "protected-main", f"{merge}:{MAIN}")


def test_a_push_that_turns_the_hook_off_is_found_by_verify(waiting):
    """``--receive-pack`` names the program on the other side; on one's own disk that can be git without hooks."""
    fix = quick_fix(waiting)
    waiting.holds()
    waiting.push_without_hooks(f"{fix}:{MAIN}")
    waiting.detected(fix, "without receipts")


def test_a_ref_moved_on_disk_is_found_by_verify(waiting):
    """``update-ref`` asks nobody."""
    fix = quick_fix(waiting)
    waiting.rewrite_on_disk(MAIN, fix)
    waiting.detected(fix, "without receipts")


def test_main_rewound_on_disk_is_found_by_every_clone_that_saw_more(deployed):
    """An older history is honest in itself; who has seen the newer one says so."""
    assert deployed.as_(HARNESS).fetch_into(deployed.git) == deployed.main()
    deployed.rewrite_on_disk(MAIN, deployed.bare.text("rev-parse", f"{MAIN}~2"))
    with refused("rewound-forge"):
        deployed.as_(HARNESS).fetch_into(deployed.git)


def test_events_by_nobody_or_in_another_s_name_are_refused(waiting):
    """The review log takes signed events of listed keys only."""
    forge = waiting.as_(HARNESS)
    forge.fetch_into(waiting.git)
    last = forge._reader.log(waiting.pull_tip(4))[-1]
    now = datetime.now(UTC).replace(microsecond=0)
    for actor, key, word in (("maya", HARNESS, "forged-event"), ("maya", "mallory", "unknown-key")):
        event = new_event(last, "closed", actor, now, waiting.main())
        commit = waiting.as_(actor, key)._commit(event, None, (last.commit,))
        turned_away(waiting, word, f"{commit}:{PULL}")
    honest = forge._commit(new_event(last, "closed", HARNESS, now, waiting.main()), None, (last.commit,))
    assert waiting.push(f"{honest}:{PULL}").returncode == 0


def test_a_review_log_is_neither_rewound_nor_removed_nor_replaced_by_push(waiting):
    """Logs only grow."""
    waiting.approve(4, "maya")
    waiting.as_(HARNESS).fetch_into(waiting.git)
    turned_away(waiting, "", f"{PULL}~1:{PULL}")
    turned_away(waiting, "", f":{PULL}")
    turned_away(waiting, "", f"{waiting.pull_tip(1)}:{PULL}")


def test_a_review_log_rewound_on_disk_is_found_by_every_clone_that_saw_it(waiting):
    """Noor's rejection is cut off the log; whoever fetched it refuses to go on."""
    before = waiting.pull_tip(4)
    waiting.reject(4, "noor")
    waiting.as_(HARNESS).fetch_into(waiting.git)
    waiting.rewrite_on_disk(PULL, before)
    with refused("rewound-forge"):
        waiting.approve(4, "maya")


def test_a_review_log_removed_on_disk_is_found_by_every_clone_that_saw_it(waiting):
    """Gone altogether, so that the number could be used again without its rejection."""
    waiting.reject(4, "noor")
    waiting.as_(HARNESS).fetch_into(waiting.git)
    waiting.rewrite_on_disk(PULL, None)
    with refused("rewound-forge") as errors:
        waiting.as_(HARNESS).fetch_into(waiting.git)
    assert PULL in errors[0].message


def test_a_number_used_again_after_its_log_was_removed_is_found(waiting):
    """The new log does not follow the old one."""
    reader = Git(waiting.plain_clone())
    LocalForge(waiting.forge, reader, None).fetch_into(reader)
    head = waiting.head(4)
    waiting.rewrite_on_disk(PULL, None)
    waiting.git.run("update-ref", "-d", PULL)
    assert waiting.open(head, branch="anew") == 4
    with refused("rewound-forge"):
        LocalForge(waiting.forge, reader, None).fetch_into(reader)


def test_a_forged_pull_ref_is_never_read_as_a_pull_request(waiting):
    """A log on disk whose events nobody signed, or that belongs to another number."""
    waiting.rewrite_on_disk("refs/modelsmith/pulls/5", waiting.pull_tip(4))
    with refused("bad-event"):
        waiting.as_(HARNESS).get(5)
    waiting.rewrite_on_disk("refs/modelsmith/pulls/5", None)
    forge = waiting.as_(HARNESS, "mallory")
    first = waiting.as_(HARNESS)._reader.log(waiting.pull_tip(4))[0].event
    forged = forge._commit(first.model_copy(update={"pull": 5}), None, (forge._root(), first.head))
    turned_away(waiting, "unknown-key", f"{forged}:refs/modelsmith/pulls/5")
    waiting.rewrite_on_disk("refs/modelsmith/pulls/5", forged)
    with refused("unknown-key"):
        waiting.as_(HARNESS).get(5)
    assert waiting.as_(HARNESS).get(4).status == "open"


@pytest.mark.parametrize("kind", ["tag", "blob"])
def test_a_pull_ref_that_holds_no_commit_hides_no_other(waiting, kind):
    """git finds the commit behind a tag by itself, under another id than the ref's."""
    oid = waiting.bare.text("hash-object", "-w", "--stdin", input=b"x")
    if kind == "tag":
        text = f"object {waiting.pull_tip(4)}\ntype commit\ntag t\ntagger x <x@x> 1 +0000\n\nt\n"
        oid = waiting.bare.text("mktag", input=text.encode())
    waiting.bare.run("update-ref", "refs/modelsmith/pulls/5", oid)
    listing = pr_list.run(waiting.workspace, pr_list.PrListRequest())
    assert [pull.number for pull in listing.pulls] == [4]
    assert [broken.number for broken in listing.unreadable] == [5]


def test_main_and_a_pull_request_do_not_move_in_one_push(waiting):
    """Merged and closed at once, a pull request said for ever that it had been withdrawn."""
    forge = waiting.as_(HARNESS)
    forge.fetch_into(waiting.git)
    last = forge._reader.log(waiting.pull_tip(4))[-1]
    now = datetime.now(UTC).replace(microsecond=0)
    closing = forge._commit(new_event(last, "closed", HARNESS, now, waiting.main()), None, (last.commit,))
    turned_away(waiting, "one-at-a-time", f"{quick_fix(waiting)}:{MAIN}", f"{closing}:{PULL}")


@pytest.mark.parametrize(
    "ref",
    [
        "refs/pull/4/head",
        "refs/replace/" + "1" * 40,
        "refs/notes/commits",
        "refs/main",
        "refs/remotes/origin/main",
        "refs/modelsmith/main",
        "refs/modelsmith/pulls/05",
        "refs/heads/MAIN",
        "refs/tags/main",
        "refs/tags/origin/main",
        "refs/tags/Main",
        "refs/heads/HEAD",
        "refs/heads/" + "a" * 40,
        "refs/tags/" + "a" * 12,
        "refs/heads/refs/heads/main",
        "refs/heads/Refs/heads/main",
        "refs/heads/topic/refs/heads/main",
        "refs/tags/refs/modelsmith/pulls/5",
        "refs/heads/heads/main",
        "refs/heads/remotes/origin/main",
    ],
)
def test_refs_that_mean_something_or_can_be_mistaken_for_it_are_refused(waiting, ref):
    """A tag ``main`` comes before the branch wherever git looks a name up; a branch may be named like a commit."""
    turned_away(waiting, "reserved-ref", f"{waiting.main()}:{ref}")


@pytest.mark.parametrize("ref", ["refs/heads/topic", "refs/heads/feed", "refs/tags/v1.0.0", "refs/heads/main-2"])
def test_other_refs_are_free(waiting, ref):
    """The control of the one above."""
    assert waiting.push(f"{waiting.main()}:{ref}").returncode == 0


def test_a_second_main_in_the_tail_of_a_name_hides_the_first_from_nobody(waiting):
    """Lists of refs match tails: with such a branch nobody could compare with the forge, or read it from elsewhere."""
    main, tips = waiting.main(), waiting.as_(HARNESS)._reader.tips()
    clone = waiting.plain_clone()
    for name in ("refs/heads/main", "x\u2028y/refs/heads/main", "refs/modelsmith/pulls/4", "refs/modelsmith/pulls/5"):
        waiting.rewrite_on_disk(f"refs/heads/{name}", waiting.bare.text("rev-parse", f"{MAIN}~1"))
    assert waiting.verify(clone, against=str(waiting.forge)).compared[str(waiting.forge)] == "same"
    mirror = Mirror(f"file://{waiting.forge}", waiting.folder / "mirror.git", Git(clone))
    for _ in range(2):
        mirror.refresh()
        reader = Reader(Git(mirror.path))
        assert (reader.main(), reader.tips()) == (main, tips)
    LocalForge(waiting.forge, Git(clone), None).fetch_into(Git(clone))
    assert Git(clone).rev("refs/modelsmith/main") == main


@pytest.mark.parametrize("name", ["main", "origin/main"])
def test_a_tag_named_like_the_branch_does_not_hide_it_from_verify(waiting, name):
    """The tag stands at honest history, the branch at a quick fix: a name that means two things is refused."""
    honest = waiting.main()
    waiting.holds()
    fix = quick_fix(waiting)
    waiting.rewrite_on_disk(MAIN, fix)
    waiting.rewrite_on_disk(f"refs/tags/{name}", honest)
    clone = waiting.plain_clone()
    assert plain_git("rev-parse", name, folder=clone).stdout.strip() == honest, "git itself takes the tag"
    for options in ({"revision": name}, *([{}] if name == "main" else [])):
        with refused("ambiguous-name"):
            waiting.verify(clone, **options)


def test_a_branch_named_like_a_commit_does_not_stand_in_for_it(waiting):
    """``verify --revision ABBREVIATION`` verifies that commit or nothing."""
    honest = waiting.main()
    fix = quick_fix(waiting)
    waiting.rewrite_on_disk(MAIN, fix)
    clone = waiting.plain_clone()
    short = fix[:12]
    Git(clone).run("update-ref", f"refs/heads/{short}", honest)
    assert plain_git("rev-parse", short, folder=clone).stdout.strip() == honest, "git itself takes the branch"
    with refused("bad-revision"):
        waiting.verify(clone, revision=short)
    assert waiting.verify(clone, revision=honest[:12]).tip == honest


ENVIRONMENTS = {
    "configuration by count": {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.hooksPath", "GIT_CONFIG_VALUE_0": "/dev/null",
    },
    "configuration by parameters": {"GIT_CONFIG_PARAMETERS": "'core.hooksPath=/dev/null'"},
    "another object directory": {"GIT_OBJECT_DIRECTORY": "{clone}/.git/objects"},
    "more object directories": {"GIT_ALTERNATE_OBJECT_DIRECTORIES": "{clone}/.git/objects"},
    "another repository": {"GIT_DIR": "{clone}/.git"},
    "a quarantine of one's own": {"GIT_QUARANTINE_PATH": "{clone}/.git/objects"},
    "replacement refs": {"GIT_REPLACE_REF_BASE": "refs/heads/"},
    "grafts": {"GIT_GRAFT_FILE": "{clone}/grafts"},
    "a shallow file": {"GIT_SHALLOW_FILE": "{clone}/shallow"},
    "a global configuration": {"GIT_CONFIG_GLOBAL": "{clone}/gitconfig"},
}  # fmt: skip


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.usefixtures("installed_hook")
def test_no_environment_of_git_s_takes_the_hook_s_judgement_away(waiting, name):
    """What a pusher exports reaches a forge on the same machine; git drops a part of it, the toolkit the rest."""
    fix = quick_fix(waiting)
    (waiting.clone / "gitconfig").write_text("[core]\n hooksPath = /dev/null\n")
    (waiting.clone / "grafts").write_text("")
    (waiting.clone / "shallow").write_text("")
    environment = {key: value.format(clone=waiting.clone) for key, value in ENVIRONMENTS[name].items()}
    turned_away(waiting, "", f"{fix}:{MAIN}", **environment)
    waiting.holds()


@pytest.mark.usefixtures("installed_hook")
def test_a_namespace_leaves_the_real_main_alone(waiting):
    """``GIT_NAMESPACE`` makes a main of its own, which nobody reads."""
    before = waiting.main()
    waiting.push(f"{quick_fix(waiting)}:{MAIN}", GIT_NAMESPACE="quiet")
    assert waiting.main() == before
    waiting.holds()


@pytest.mark.usefixtures("installed_hook")
def test_a_toolkit_of_the_pusher_s_at_the_hook_is_found_by_verify(waiting, tmp_path):
    """On one machine the pusher's ``PYTHONPATH`` reaches the hook. Verify runs the verifier's own toolkit."""
    fake = tmp_path / "modelsmith"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "__main__.py").touch()
    fix = quick_fix(waiting)
    turned_away(waiting, "protected-main", f"{fix}:{MAIN}")
    assert waiting.push(f"{fix}:{MAIN}", PYTHONPATH=str(tmp_path)).returncode == 0
    waiting.detected(fix, "without receipts")


def claiming(world, actor, signature):
    """Mallory's signature with another's public key written into it, which names them as the signer."""
    first, *lines, last = signature.strip("\n").split("\n")
    own, claimed = (base64.b64decode(world.public(holder).split()[1]) for holder in ("mallory", actor))
    blob = base64.b64decode("".join(lines))
    assert own in blob
    text = base64.b64encode(blob.replace(own, claimed)).decode()
    return "\n".join([first, *(text[at : at + 70] for at in range(0, len(text), 70)), last, ""])


@pytest.mark.usefixtures("installed_hook")
def test_an_ssh_keygen_of_the_pusher_s_is_not_asked_at_the_hook(waiting, tmp_path, monkeypatch):
    """On one machine the pusher's ``PATH`` reaches the hook: a program that finds every signature Maya's.

    Of Ed25519 it has no word. Of other keys it has, and whoever reads the log finds it out.
    """
    fake = tmp_path / "ssh-keygen"
    fake.write_text("#!/bin/sh\necho maya\n")
    fake.chmod(0o755)
    forge = waiting.as_(HARNESS)
    forge.fetch_into(waiting.git)
    last = forge._reader.log(waiting.pull_tip(4))[-1]
    event = new_event(last, "commented", "maya", datetime.now(UTC).replace(microsecond=0), waiting.main())
    with monkeypatch.context() as patch:
        patch.setattr(ssh, "sign", lambda *words, sign=ssh.sign: claiming(waiting, "maya", sign(*words)))
        forged = waiting.as_("maya", "mallory")._commit(event, None, (last.commit,))
    turned_away(waiting, "bad-signature", f"{forged}:{PULL}")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    turned_away(waiting, "bad-signature", f"{forged}:{PULL}", PATH=path)


def test_two_merges_racing_for_main_leave_one(waiting):
    """Both were built on the same main; the second is refused by lease and by hook, and nothing is overwritten."""
    number = waiting.propose({"notes.md": b"one\n"}, "petra", "one")
    waiting.approve(number, "paul")
    waiting.approve(4, "maya")
    old = waiting.main()
    waiting.fetch()
    head = waiting.head(number)
    late = waiting.git.commit_tree(waiting.git.merge_tree(old, head), [old, head], "Merge\n", NOBODY)
    waiting.merge(4)
    now = waiting.main()
    waiting.hook(True)
    with refused("ref-moved"):
        waiting.as_(HARNESS).merge(number, late, old)
    turned_away(waiting, "", f"{late}:{MAIN}")
    assert waiting.main() == now
    waiting.hook(False)
    assert waiting.merge(number).status == "merged"
    assert waiting.holds().approvals == 2


def test_the_forge_s_first_main_cannot_be_pushed_over_an_existing_one(waiting):
    """A push that says main did not exist yet is not believed."""
    root = waiting.git.commit_tree(f"{waiting.main()}^{{tree}}", [], "Start\n", NOBODY)
    turned_away(waiting, "", f"{root}:{MAIN}")
    assert ZERO not in waiting.main()
    assert Path(waiting.forge, "hooks", "pre-receive").exists()
