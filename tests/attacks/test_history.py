"""Attacks on history and on the clone that verifies it. Whoever verifies has a plain clone and a pinned root."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib

import pytest
from attacker import CLUSTER, MAIN, NOBODY, PEOPLE_FILE, ROUTING, RUBRIC, plain_git, refused

from modelsmith.operations import pr_list, pr_show
from modelsmith.repository.git import Git
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure


def approved(world, actor="maya", number=4):
    """Head and honest approval of the waiting deployment."""
    head = world.head(number)
    return head, world.review(actor, world.sign_with(actor, world.statement(actor, number)))


def receipts(world):
    """Folder of the deployment's receipts, on main."""
    paths = world.governed().tree.paths(f"promotions/{CLUSTER}")
    return next(path for path in paths if "customer-deployed/receipts" in path).rpartition("/")[0]


def on_top(world, files, parent=None, message="Receipts of pull request 5\n"):
    """A commit put on main past everything."""
    commit = world.git.commit_files(parent or world.main(), files, message, NOBODY)
    world.rewrite_on_disk(MAIN, commit)
    return commit


def test_an_honest_merge_past_the_hook_verifies(waiting):
    """The control of this file: verify trusts no hook, and does not miss it either."""
    head, approval = approved(waiting)
    waiting.force(head, [approval])
    assert waiting.holds().promotions == 4


EVIL = {
    "a rubric": {RUBRIC: b"id: root-cause\n"},
    "people": {PEOPLE_FILE: b"roles: {}\n"},
    "a route": {ROUTING: b"cluster: rtb-pricing\n"},
    "a workflow": {".github/workflows/ci.yaml": b"on: push\n"},
    "a note": {"notes.md": b"harmless\n"},
}


@pytest.mark.parametrize("name", EVIL)
def test_an_evil_merge_is_refused_by_the_hook_and_found_by_verify(waiting, name):
    """The merge commit holds more than main and head together: the hook merges again and compares."""
    head, approval = approved(waiting)
    waiting.as_("maya").review(4, approval.proof)
    main = waiting.main()
    tree = waiting.git.merge_tree(main, head)
    evil = waiting.git.commit_files(waiting.git.commit_tree(tree, [main], "x\n", NOBODY), EVIL[name], "x\n", NOBODY)
    merge = waiting.git.commit_tree(f"{evil}^{{tree}}", [main, head], "Merge pull request 4\n", NOBODY)
    result = waiting.push(f"{merge}:{MAIN}")
    assert result.returncode
    assert "evil-merge" in result.stderr
    waiting.detected(waiting.force(head, [approval], tree=f"{evil}^{{tree}}"))


def test_an_evil_merge_that_leaves_something_out_is_found(waiting):
    """Less is another change, too: the deployment without the routing that it leads to."""
    head, approval = approved(waiting)
    main = waiting.main()
    assert ROUTING in {path.path for path in waiting.git.change(main, head).paths}
    less = waiting.git.commit_files(head, {ROUTING: None}, "x\n", NOBODY)
    tree = waiting.git.merge_tree(main, less)
    waiting.detected(waiting.force(head, [approval], tree=tree))


def test_octopus_and_swapped_merges_are_found(waiting):
    """A merge has main first and one head second, and nothing else."""
    head, approval = approved(waiting)
    merge = waiting.force(head, [approval])
    tip, main = waiting.main(), waiting.git.text("rev-parse", f"{merge}^1")
    receipts_tree = waiting.bare.text("rev-parse", f"{tip}^{{tree}}")
    other = waiting.commit({"notes.md": b"x\n"}, main)
    for parents in ([main, head, other], [head, main], [main, other, head]):
        odd = waiting.git.commit_tree(f"{merge}^{{tree}}", parents, "Merge pull request 4\n", NOBODY)
        waiting.fetch()
        waiting.rewrite_on_disk(MAIN, waiting.git.commit_tree(receipts_tree, [odd], "Receipts\n", NOBODY))
        waiting.detected()
    waiting.rewrite_on_disk(MAIN, tip)
    waiting.holds()


@pytest.mark.parametrize(
    "files",
    [
        {"{receipts}/note.md": b"harmless\n"},
        {RUBRIC: b"id: root-cause\n"},
        {PEOPLE_FILE: b"roles: {}\n"},
        {"promotions/README.md": None},
    ],
    ids=["one receipt more", "a rubric", "people", "a removal"],
)
def test_a_receipts_commit_that_holds_more_is_found(waiting, files):
    """Between the merge and the next one there is room for receipts and for nothing else."""
    head, approval = approved(waiting)
    record = next(p.path for p in waiting.git.change(waiting.main(), head).paths if p.path.endswith("/record.json"))
    folder = f"{record.rpartition('/')[0]}/receipts"
    more = {path.format(receipts=folder): data for path, data in files.items()}
    merge = waiting.force(head, [approval], more=more)
    waiting.detected(merge, "other files than its receipts")


def test_receipts_left_out_are_found(waiting):
    """A merge on main without the commit that says who decided."""
    head, approval = approved(waiting)
    merge = waiting.force(head, [approval])
    waiting.rewrite_on_disk(MAIN, merge)
    waiting.detected(merge, "without receipts")


@pytest.mark.parametrize("name", ["changed", "removed", "added", "replaced by noor's"])
def test_receipts_edited_later_are_found(deployed, name):
    """Nothing under promotions/ ever changes; and a commit that no pull request stands behind is none of main's."""
    folder = receipts(deployed)
    statement = deployed.sign_with("noor", deployed.statement("noor", 4, f"{deployed.main()}~1"))
    edits = {
        "changed": {f"{folder}/merge.json": b"{}"},
        "removed": {f"{folder}/approval-maya.json": None},
        "added": {f"{folder}/approval-oli.json": b"{}"},
        "replaced by noor's": {
            f"{folder}/approval-maya.json": statement.statement.encode(),
            f"{folder}/approval-maya.json.sig": statement.signature.encode(),
        },
    }
    deployed.fetch()
    commit = on_top(deployed, edits[name])
    deployed.detected(commit)


def test_receipts_edited_later_by_a_pull_request_are_refused(deployed):
    """Even with every owner's approval."""
    head = deployed.commit({f"{receipts(deployed)}/merge.json": b"{}"})
    deployed.closed_to_everybody(head, "append-only")


@pytest.mark.parametrize("approvals", [{"maya": "merge.json"}, {"maya": "missing.json"}, {"maya": "a/b.json"}])
def test_receipts_that_name_odd_files_are_found_and_do_not_crash(waiting, approvals):
    """The list of approvals comes from whoever merged: it is read as a claim."""
    head, approval = approved(waiting)
    record = next(p.path for p in waiting.git.change(waiting.main(), head).paths if p.path.endswith("/record.json"))
    folder = f"{record.rpartition('/')[0]}/receipts"
    (name,) = approvals.values()
    more = {} if name == "missing.json" else {f"{folder}/{name}.sig": approval.proof.signature.encode()}
    waiting.detected(waiting.force(head, [], gate="people", lie={"approvals": approvals}, more=more))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"pull":4,"pull":5}', b"[" * 100_000])
def test_a_merge_receipt_that_cannot_be_read_is_found_and_does_not_crash(waiting, data):
    """Exit 5 with the commit, not a traceback."""
    head, approval = approved(waiting)
    record = next(p.path for p in waiting.git.change(waiting.main(), head).paths if p.path.endswith("/record.json"))
    merge = waiting.force(head, [approval], more={f"{record.rpartition('/')[0]}/receipts/merge.json": data})
    waiting.detected(merge)


def test_a_promotion_removed_from_main_is_found(deployed):
    """Whoever approves that."""
    folder = receipts(deployed).rpartition("/")[0]
    removed = dict.fromkeys(deployed.governed().tree.paths(folder))
    deployed.closed_to_everybody(deployed.commit(removed), "append-only")


def test_history_rewritten_from_another_root_has_another_fingerprint(deployed):
    """A root of the attacker's own verifies by itself; the one that the reviewer pinned is not in it."""
    files = {PEOPLE_FILE: deployed.governed().tree.read(PEOPLE_FILE).replace(b"id: maya", b"id: mallory")}
    base = deployed.git.commit_files(deployed.git.first_parent_log(deployed.main())[0].id, files, "Start\n", NOBODY)
    orphan = deployed.git.commit_tree(f"{base}^{{tree}}", [], "Start\n", NOBODY)
    deployed.rewrite_on_disk(MAIN, orphan)
    assert deployed.detected().code == "unknown-root"


def test_promotions_in_a_first_commit_with_pinned_governance_are_found(deployed):
    """The rules and keys are the pinned ones, and the first commit brings a deployment that nobody approved."""
    files = {f"{receipts(deployed)}/approval-maya.json": None, f"{receipts(deployed)}/approval-maya.json.sig": None}
    squashed = deployed.git.commit_files(deployed.main(), files, "x\n", NOBODY)
    orphan = deployed.git.commit_tree(f"{squashed}^{{tree}}", [], "Start\n", NOBODY)
    deployed.rewrite_on_disk(MAIN, orphan)
    deployed.detected()


# The clone that verifies.


def test_a_shallow_clone_is_not_verified(deployed):
    """Cut off behind a quick fix, the rules still have the pinned fingerprint and nothing is left to judge."""
    fix = on_top(deployed, {"notes.md": b"quick fix\n"})
    shallow = deployed.folder / "shallow"
    plain_git("clone", "--quiet", "--depth", "1", f"file://{deployed.forge}", shallow)
    assert deployed.detected(clone=shallow).code == "shallow-history"
    deployed.detected(fix)


def test_a_forge_that_is_cut_off_itself_is_not_verified(deployed):
    """The same, done on the forge's disk: every clone of it is shallow without anybody asking."""
    fix = on_top(deployed, {"notes.md": b"quick fix\n"})
    (deployed.forge / "shallow").write_text(f"{fix}\n")
    assert deployed.detected().code == "shallow-history"


def test_a_partial_clone_is_said_to_lack_objects_and_fetches_nothing(deployed):
    """Verify is offline: what is missing is missing, and no configured program is run to get it."""
    deployed.bare.run("config", "uploadpack.allowFilter", "true")
    clone = deployed.folder / "partial"
    result = plain_git("clone", "--quiet", "--no-checkout", "--filter=blob:none", f"file://{deployed.forge}", clone)
    assert result.returncode == 0, result.stderr
    trap = deployed.folder / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {deployed.folder}/sprung\n")
    trap.chmod(0o755)
    plain_git("config", "remote.origin.uploadpack", trap, folder=clone)
    with refused("partial-clone"):
        deployed.verify(clone)
    text = (clone / ".git" / "config").read_text()
    plain = "".join(line for line in text.splitlines(True) if "artial" not in line and "promisor" not in line)
    (clone / ".git" / "config").write_text(f"{plain}[include]\n\tpath = more\n")
    for setting in ("promisor = true", "partialCloneFilter = blob:none"):
        (clone / ".git" / "more").write_text(f'[remote "origin"]\n\t{setting}\n\tuploadpack = {trap}\n')
        with refused("partial-clone"):
            deployed.verify(clone)
    (clone / ".git" / "config").write_text(text)
    assert not (deployed.folder / "sprung").exists()
    plain_git("cat-file", "blob", f"{MAIN}:{PEOPLE_FILE}", folder=clone)
    assert (deployed.folder / "sprung").exists(), "git itself runs it"
    whole = plain_git("clone", "--quiet", f"file://{deployed.forge}", deployed.folder / "whole")
    assert whole.returncode == 0
    assert deployed.verify(deployed.folder / "whole").verified


def loose(world, oid):
    """Path of an object of the forge, unpacked."""
    path = world.forge / "objects" / oid[:2] / oid[2:]
    if not path.exists():
        for pack in (world.forge / "objects" / "pack").glob("*.pack"):
            moved = world.folder / pack.name
            pack.rename(moved)
            subprocess.run(["git", "-C", world.forge, "unpack-objects", "-q"], stdin=moved.open("rb"), check=True)
        for index in (world.forge / "objects" / "pack").iterdir():
            index.unlink()
    return path


def blob_of(world, path):
    """Id of a file's content on main."""
    return world.bare.text("rev-parse", f"{world.main()}:{path}")


def test_a_missing_object_is_found(deployed):
    """Somebody removed the evidence from the forge's disk; a clone by path does not notice."""
    path = next(p for p in deployed.governed().tree.paths("promotions") if p.endswith("/evidence.json"))
    oid = blob_of(deployed, path)
    loose(deployed, oid).unlink()
    clone = deployed.plain_clone("incomplete", "--no-checkout")
    assert deployed.detected(clone=clone).code == "damaged-object"


@pytest.mark.parametrize("kind", ["blob", "tree", "commit"])
def test_other_content_under_the_id_of_an_approved_object_is_found(deployed, kind):
    """A clone by path copies objects unread, and git believes their names: an approval speaks of ids."""
    oid = {
        "blob": blob_of(deployed, RUBRIC),
        "tree": deployed.bare.text("rev-parse", f"{deployed.main()}:evals"),
        "commit": deployed.bare.text("rev-parse", f"{deployed.main()}~1"),
    }[kind]
    data = deployed.bare.run("cat-file", kind, oid)
    other = {
        "blob": data.replace(b"weight: 2", b"weight: 9", 1),
        "tree": deployed.bare.run("cat-file", "tree", f"{deployed.main()}:clusters"),
        "commit": data.replace(b"Merge", b"merge", 1),
    }[kind]
    assert other != data
    deployed.holds()
    path = loose(deployed, oid)
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"%s %d\0" % (kind.encode(), len(other)) + other))
    clone = deployed.plain_clone("copied", "--no-checkout")
    assert deployed.detected(clone=clone).code == "damaged-object"


def test_a_forged_commit_graph_is_not_believed(deployed):
    """Git takes parents and trees from a cache in the object folder, which a clone by path copies."""
    fix = on_top(deployed, {"notes.md": b"quick fix\n"})
    honest = deployed.bare.text("rev-parse", f"{fix}^")
    parents = [deployed.bare.text("rev-parse", f"{honest}^1")]
    graph = deployed.forge / "objects" / "info" / "commit-graph"
    deployed.bare.run("-c", "core.commitGraph=true", "commit-graph", "write", "--reachable")
    data = graph.read_bytes()
    width = 20 + 16
    ids = sorted(deployed.bare.text("rev-list", "--all").split())
    assert len(ids) * width < len(data)
    chunk = data.index(bytes.fromhex(deployed.bare.text("rev-parse", f"{fix}^{{tree}}")))
    tree = bytes.fromhex(deployed.bare.text("rev-parse", f"{honest}^{{tree}}"))
    position = ids.index(parents[0]).to_bytes(4, "big")
    forged = data[:chunk] + tree + position + data[chunk + 24 : -20]
    graph.chmod(0o644)
    graph.write_bytes(forged + hashlib.sha1(forged, usedforsecurity=False).digest())
    clone = deployed.plain_clone("with-graph")
    log = plain_git("rev-list", "--first-parent", "--parents", "--max-count=1", MAIN, folder=clone).stdout.split()
    assert log == [fix, *parents], "git itself believes the graph"
    deployed.detected(fix, clone=clone)


@pytest.mark.parametrize("name", ["*.idx", "multi-pack-index"])
def test_a_forged_index_of_packs_is_not_believed(deployed, name):
    """Git takes from it where an object stands: here each of two commits stands where the other does."""
    honest = deployed.main()
    fix = on_top(deployed, {"notes.md": b"quick fix\n"})
    clone = deployed.plain_clone("with-index")
    plain_git("repack", "-a", "-d", "--quiet", folder=clone)
    packs = clone / ".git" / "objects" / "pack"
    (pack,) = packs.glob("*.idx")
    listed = subprocess.run(["git", "show-index"], stdin=pack.open("rb"), capture_output=True, check=True)
    ids = sorted(line.split()[1] for line in listed.stdout.decode().splitlines())
    width, after = 4, 20
    if name == "multi-pack-index":
        plain_git("multi-pack-index", "write", folder=clone)
        width, after = 8, 0
    (index,) = packs.glob(name)
    data = index.read_bytes()[:-20]
    offset, other = (len(data) - after - width * (len(ids) - ids.index(commit)) for commit in (honest, fix))
    forged = bytearray(data)
    forged[offset : offset + width], forged[other : other + width] = (
        data[other : other + width],
        data[offset : offset + width],
    )
    index.unlink()
    index.write_bytes(forged + hashlib.sha1(forged, usedforsecurity=False).digest())
    subject = plain_git("log", "--max-count=1", "--format=%s", MAIN, folder=clone).stdout
    assert "Receipts" in subject, "git itself believes the index"
    assert deployed.detected(clone=clone).code == "damaged-object"


def test_grafts_and_replacements_do_not_hide_a_commit(deployed):
    """Both make git show another history than the objects tell."""
    honest = deployed.main()
    fix = on_top(deployed, {"notes.md": b"quick fix\n"})
    deployed.rewrite_on_disk(f"refs/replace/{fix}", honest)
    clone = deployed.plain_clone()
    plain_git("fetch", "--quiet", "origin", "+refs/replace/*:refs/replace/*", folder=clone)
    (clone / ".git" / "info" / "grafts").write_text(f"{fix} {honest}~1\n")
    subject = plain_git("log", "-1", "--format=%s", MAIN, folder=clone).stdout.strip()
    assert subject != "Receipts of pull request 5", "git itself is misled"
    deployed.detected(fix, clone=clone)


CONFIGURATION = """
[core]
    fsmonitor = {trap}
    hooksPath = {folder}
    sshCommand = {trap}
    pager = {trap}
    editor = {trap}
    gitProxy = {trap}
    askPass = {trap}
    attributesFile = {folder}/attributes
[alias]
    rev-list = !{trap}
    diff-tree = !{trap}
    cat-file = !{trap}
    log = !{trap}
[log]
    showSignature = true
    mailmap = true
[gpg]
    program = {trap}
[gpg "ssh"]
    program = {trap}
[diff]
    external = {trap}
    noprefix = true
    renames = copies
    ignoreSubmodules = all
[filter "trap"]
    clean = {trap}
    smudge = {trap}
    process = {trap}
    required = true
[merge]
    default = trap
[merge "trap"]
    driver = {trap}
[i18n]
    commitEncoding = UTF-16
    logOutputEncoding = UTF-16
[format]
    pretty = %s
[fetch]
    prune = true
"""


def test_no_setting_of_the_clone_runs_a_program_or_changes_the_answer(deployed):
    """A clone that somebody else prepared: monitors, hooks, aliases, filters, signing programs and encodings."""
    honest = deployed.holds()
    clone = deployed.plain_clone("prepared")
    trap = deployed.folder / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {deployed.folder}/sprung\ncat\n")
    trap.chmod(0o755)
    (deployed.folder / "attributes").write_text("* filter=trap diff=trap merge=trap\n")
    (clone / ".git" / "info" / "attributes").write_text("* filter=trap diff=trap merge=trap text eol=crlf\n")
    with (clone / ".git" / "config").open("a") as config:
        config.write(CONFIGURATION.format(trap=trap, folder=deployed.folder))
    (deployed.folder / "post-checkout").symlink_to(trap)
    assert deployed.verify(clone) == honest
    fix = on_top(deployed, {"notes.md": b"quick fix\n"})
    Git(clone).run("fetch", "--quiet", str(deployed.forge), f"+{MAIN}:refs/heads/fix")
    with refused("history-does-not-hold") as errors:
        deployed.verify(clone, revision="fix")
    assert errors[0].details["commit"] == fix
    assert not (deployed.folder / "sprung").exists()
    (clone / ".git" / "info" / "attributes").unlink()
    base = deployed.commit({"both.md": b"one\n"})
    ours, theirs = (deployed.commit({"both.md": word}, base) for word in (b"two\n", b"three\n"))
    for commit in (ours, theirs):
        Git(clone).run("fetch", "--quiet", str(deployed.clone), commit)
    with pytest.raises(GateNotCleared, match="does not merge cleanly"):
        Git(clone).merge_tree(ours, theirs)
    assert not (deployed.folder / "sprung").exists()


def test_a_signed_commit_does_not_make_verify_run_a_signing_program(fresh):
    """``log.showSignature`` would run ``gpg.ssh.program`` of the clone's settings for every signed commit."""
    options = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={fresh.key('petra')}")
    (fresh.clone / "notes.md").write_text("x\n")
    plain_git("add", "--all", folder=fresh.clone)
    result = plain_git(*options, "commit", "--quiet", "--gpg-sign", "--message", "x", folder=fresh.clone)
    assert result.returncode == 0, result.stderr
    head = fresh.git.text("rev-parse", "HEAD")
    number = fresh.open(head, "petra")
    fresh.approve(number, "paul")
    fresh.merge(number)
    clone = fresh.plain_clone()
    trap = fresh.folder / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {fresh.folder}/sprung\n")
    trap.chmod(0o755)
    settings = {"log.showSignature": "true", "gpg.ssh.program": trap, "gpg.ssh.allowedSignersFile": "/dev/null"}
    for name, value in settings.items():
        plain_git("config", name, value, folder=clone)
    plain_git("log", "-1", head, folder=clone)
    assert (fresh.folder / "sprung").exists(), "git itself runs it"
    (fresh.folder / "sprung").unlink()
    assert fresh.verify(clone).approvals == 1
    assert not (fresh.folder / "sprung").exists()


def test_commits_in_odd_encodings_are_read_all_the_same(fresh):
    """A commit may say it is in any encoding; names in it are claims, and the history stays what it is."""
    head = fresh.commit({"notes.md": b"x\n"})
    raw = fresh.git.run("cat-file", "commit", head)
    facts, message = raw.split(b"\n\n", 1)
    odd = facts + b"\nencoding UTF-7\n\n+AAA-Merge pull request 9+AAo-" + message
    commit = fresh.git.text("hash-object", "-t", "commit", "-w", "--stdin", input=odd)
    number = fresh.open(commit, "petra")
    fresh.approve(number, "paul")
    fresh.merge(number)
    assert fresh.holds().changes == 1


def test_a_tree_with_duplicate_entries_is_refused_and_found(fresh):
    """Two files of one name: which one counts depends on who reads."""
    fresh.fetch()
    listed = [line.split() for line in fresh.git.text("ls-tree", fresh.main()).splitlines()]
    entries = [(mode.lstrip("0"), name, oid) for mode, _, oid, name in listed]
    twice = next(entry for entry in entries if entry[1] == "README.md")
    blob = fresh.git.text("hash-object", "-w", "--stdin", input=b"another\n")
    at = entries.index(twice)
    tree = fresh.raw_tree([*entries[: at + 1], (twice[0], twice[1], blob), *entries[at + 1 :]])
    head = fresh.git.text(
        "-c", "user.name=x", "-c", "user.email=x@example.org", "commit-tree", tree, "-p", fresh.main(), "-m", "x"
    )
    result = fresh.push(f"{head}:refs/heads/topic")
    assert result.returncode
    assert "duplicateEntries" in result.stderr
    fresh.rewrite_on_disk(MAIN, head)
    fresh.detected()


def with_empty_folder(world, commit, name):
    """The commit's tree and a folder that holds nothing, which no command of git's writes."""
    world.fetch()
    listed = [line.split() for line in world.git.text("ls-tree", commit).splitlines()]
    nothing = world.git.text("hash-object", "-t", "tree", "-w", "--stdin")
    entries = [*((mode.lstrip("0"), entry, oid) for mode, _, oid, entry in listed), ("40000", name, nothing)]
    return world.raw_tree(sorted(entries, key=lambda entry: f"{entry[1]}/" if entry[0] == "40000" else entry[1]))


def test_an_empty_folder_that_no_path_shows_is_refused_and_found(waiting, monkeypatch):
    """Named like what one machine keeps, it would end every command in every clone, whatever was approved."""
    tree = with_empty_folder(waiting, waiting.commit({"notes.md": b"a note\n"}), ".iterate")
    odd = waiting.git.commit_tree(tree, [waiting.main()], "A note\n", NOBODY)
    with refused("empty-folder"):
        waiting.open(odd, "petra")
    honest = waiting.git.commit_tree(f"{waiting.commit({'notes.md': b'a note'})}^{{tree}}", [odd], "Gone\n", NOBODY)
    with refused("empty-folder"):
        waiting.open(honest, "petra")
    head, approval = approved(waiting)
    tree = waiting.git.merge_tree(waiting.main(), head)
    change = waiting.git.change(waiting.main(), tree)
    with monkeypatch.context() as an_older_toolkit:
        an_older_toolkit.setattr(Git, "change", lambda *_: change)
        merge = waiting.force(head, [approval], tree=with_empty_folder(waiting, tree, ".iterate"))
    waiting.detected(merge, "holds nothing")


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "."])
def test_a_path_that_leaves_the_repository_is_refused_and_found(fresh, name):
    """No command of git's writes such an entry; a tree object written by hand has it."""
    fresh.fetch()
    blob = fresh.git.text("hash-object", "-w", "--stdin", input=b"x\n")
    inner = fresh.raw_tree([("100644", "config", blob)])
    listed = [line.split() for line in fresh.git.text("ls-tree", fresh.main()).splitlines()]
    entries = [(mode.lstrip("0"), entry, oid) for mode, _, oid, entry in listed]
    tree = fresh.raw_tree(sorted([*entries, ("40000", name, inner)], key=lambda entry: entry[1]))
    head = fresh.git.commit_tree(tree, [fresh.main()], "x\n", NOBODY)
    assert fresh.push(f"{head}:refs/heads/topic").returncode
    fresh.rewrite_on_disk(MAIN, head)
    clone = fresh.plain_clone("odd", "--no-checkout")
    fresh.detected(clone=clone)


def test_verify_says_so_in_json_with_exit_code_5(deployed):
    """What an agent or CI sees."""
    fix = on_top(deployed, {"notes.md": b"quick fix\n"})
    clone = deployed.plain_clone()
    command = ["-m", "modelsmith", "verify", "--root", deployed.root, "--json"]
    environment = {**os.environ, "MODELSMITH_HOME": str(deployed.folder / "no-home")}
    process = subprocess.run([sys.executable, *command], cwd=clone, env=environment, capture_output=True)
    assert process.returncode == 5
    assert json.loads(process.stdout)["details"]["commit"] == fix


def test_a_tampered_main_is_no_conflict_of_some_pull_request(waiting):
    """Whoever looks at pull requests is told that main does not hold, and not that a proposal needs a rebase."""
    records = waiting.governed().tree.paths(f"promotions/{CLUSTER}")
    (second,) = [path for path in records if path.endswith("02-eval-accepted/record.json")]
    on_top(waiting, {second: None})
    for look, request in ((pr_list.run, pr_list.PrListRequest()), (pr_show.run, pr_show.PrShowRequest(number=4))):
        with pytest.raises(IntegrityFailure):
            look(waiting.workspace, request)
