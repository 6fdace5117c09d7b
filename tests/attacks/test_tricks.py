"""Attacks with names, links, modes and filters: files that are not what, or not where, they seem."""

from __future__ import annotations

import pytest
import tiny
from attacker import CODEOWNERS, HARNESS, PEOPLE_FILE, POLICY, RUBRIC, SET, plain_git, refused

from modelsmith.operations import validate
from modelsmith.repository.git import Git

SCENARIO = f"{SET}/scenarios/auction-timeout"


def waits_for(world, files, *owners):
    """Nobody refuses it; exactly these owners must approve, and then it merges."""
    number = world.propose(files, "oli")
    decision = world.gate(number).decision
    assert not decision.refusals
    assert set(decision.waiting_for) == set(owners)
    return number


def test_an_honest_change_of_a_governed_file_passes(fresh):
    """The control of this file: with the owner's approval a plain file changes."""
    number = waits_for(fresh, {f"{SET}/README.md": b"About this set.\n"}, "@domain-lead")
    fresh.approve(number, "dana")
    fresh.merge(number)
    assert fresh.holds().changes == 1


def test_a_rename_asks_the_owners_of_both_places(fresh):
    """A file moved out of the evals leaves them, too: it is a removal and an addition, never a rename."""
    data = fresh.governed().tree.read(f"{SET}/generators/auction-timeout.yaml")
    path = f"{SET}/generators/auction-timeout.yaml"
    waits_for(fresh, {path: None, "clusters/README.md": data}, "@domain-lead", "@head-of-trading", "@platform")


@pytest.mark.parametrize("place", ["CODEOWNERS", "docs/CODEOWNERS"])
def test_owners_cannot_be_taken_over_from_another_place(fresh, place):
    """CODEOWNERS elsewhere is governance as well, so it cannot come along with what it would govern."""
    head = fresh.commit({place: b"* @oli\n", f"{SET}/README.md": b"x\n"})
    fresh.closed_to_everybody(head, "mixed-change", requester="oli")


def test_a_codeowners_elsewhere_owns_nothing(fresh):
    """Approved by the platform it may lie there; the owners are still those of ``.github/CODEOWNERS``."""
    for number, place in enumerate(("CODEOWNERS", "docs/CODEOWNERS"), start=1):
        assert fresh.propose({place: b"* @oli\n"}, "petra", place) == number
        fresh.approve(number, "paul")
        fresh.merge(number)
    waits_for(fresh, {f"{SET}/README.md": b"x\n"}, "@domain-lead")


@pytest.mark.parametrize("place", [CODEOWNERS, POLICY, PEOPLE_FILE])
def test_governance_cannot_be_moved_away(fresh, place):
    """A GitHub forge would take CODEOWNERS from the root then; without policy or people nothing is decided at all."""
    moved = {place: None, place.rpartition("/")[2]: fresh.governed().tree.read(place)}
    fresh.closed_to_everybody(fresh.commit(moved), "check-failed", f"{place}: the file is missing")


CASES = {
    "the evals": "Evals/adtech/one.yaml",
    "the promotions": "PROMOTIONS/rtb-pricing/x.json",
    "the clusters": "Clusters/rtb-pricing/cluster.yaml",
    "the owners": ".GitHub/CODEOWNERS",
    "the owners at the root": "codeowners",
    "the policy": ".GITHUB/governance/policy.yaml",
    "the promotions, by a long s": "promotion\u017f/x.json",
    "the runbooks, by a Kelvin sign": "runboo\u212as/x.json",
}


@pytest.mark.parametrize("name", CASES)
def test_a_folder_with_a_meaning_in_another_case_is_refused(fresh, name):
    """On some disks it is the very same folder."""
    fresh.closed_to_everybody(fresh.commit({CASES[name]: b"x\n"}), "case-alias")


def test_two_new_names_that_differ_by_case_are_refused(fresh):
    """On some disks the second overwrites the first."""
    files = {f"{SET}/README.md": b"x\n", f"{SET}/Readme.md": b"y\n"}
    fresh.closed_to_everybody(fresh.commit(files), "case-twins")


def test_a_new_name_that_differs_by_case_from_an_old_one_is_refused(fresh):
    """On some disks ``codeowners`` is ``CODEOWNERS``."""
    head = fresh.commit({".github/codeowners": b"* @oli\n"})
    fresh.closed_to_everybody(head, "check-failed", "differ only by case or Unicode form")


def test_a_name_that_not_every_clone_can_hold_is_refused(fresh):
    """With it on main, nobody on Windows could check main out; `validate` says so before it is proposed."""
    device, twin = "docs/aux.md", "docs/Security.md"
    fresh.closed_to_everybody(fresh.commit({device: b"x\n"}), "unportable-name", "Windows takes 'aux.md' for a device")
    blob = fresh.git.text("rev-parse", f"{fresh.main()}:{POLICY}")
    for path in (device, twin, twin.lower()):
        fresh.git.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    files = {problem.file for problem in validate.run(fresh.workspace, validate.ValidateRequest()).problems}
    assert {device, twin.lower()} <= files


NAMES = {
    "a newline": f"{SET}/one\ntwo.md",
    "a tab": f"{SET}/one\ttwo.md",
    "an escape sequence": f"{SET}/\x1b[2Kone.md",
    "a look-alike": f"{SET}/rubri\u0441s.md",
    "right to left": "docs/\u202elmth.exe",
    "an invisible character": "docs/e\u200bvals.md",
    "a newline elsewhere": "docs/one\ntwo.md",
    "a byte order mark": "\ufeffevals/x.yaml",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_hides_what_it_is_is_refused(fresh, name):
    """Control and invisible characters nowhere, letters beyond ASCII not where names mean something."""
    fresh.closed_to_everybody(fresh.commit({NAMES[name]: b"x\n"}), "odd-name")


def test_names_in_other_languages_are_welcome_where_nothing_is_governed(fresh):
    """The control of the one above."""
    waits_for(fresh, {"docs/\u00fcbersicht und 'Zitat'.md": b"x\n"}, "@platform")


def test_a_top_folder_that_only_looks_like_the_evals_governs_nothing(fresh):
    """With a Cyrillic letter it is another folder, the platform's; no loader ever looks there."""
    waits_for(fresh, {"ev\u0430ls/adtech/x/evalset.yaml": b"x\n"}, "@platform")
    assert not [path for path in fresh.governed().tree.paths("evals") if not path.isascii()]


LINKS = {
    "a link among the scenarios": (f"{SCENARIO}/one.yaml", b"../../../../../.github/governance/policy.yaml"),
    "a link to a place outside": (f"{SCENARIO}/one.yaml", b"/etc/passwd"),
    "a link for a rubric": (RUBRIC, b"../../../../clusters/defaults.yaml"),
    "a link for the owners": (CODEOWNERS, b"../docs/CODEOWNERS"),
    "a link for the policy": (POLICY, b"../../docs/policy.yaml"),
}


@pytest.mark.parametrize("name", LINKS)
def test_a_symbolic_link_is_no_governed_file(fresh, name):
    """What it points to could change without its path."""
    path, target = LINKS[name]
    fresh.fetch()
    blob = fresh.git.text("hash-object", "-w", "--stdin", input=target)
    fresh.closed_to_everybody(fresh.commit_entry(path, "120000", blob), "not-a-file")


def test_a_folder_replaced_by_a_link_is_refused(fresh):
    """The whole of the evals, somewhere else."""
    fresh.fetch()
    blob = fresh.git.text("hash-object", "-w", "--stdin", input=b"../other/evals")
    emptied = fresh.commit(dict.fromkeys(fresh.governed().tree.paths("evals")))
    fresh.closed_to_everybody(fresh.commit_entry("evals", "120000", blob, emptied), "not-a-file")


@pytest.mark.parametrize("path", [f"{SCENARIO}/more", "promotions/rtb-pricing", ".github/actions", "runbooks"])
def test_a_submodule_is_no_governed_folder(fresh, path):
    """What it holds is in another repository."""
    base = fresh.main()
    if path == "promotions/rtb-pricing":
        base = fresh.commit(dict.fromkeys(fresh.governed().tree.paths(path)))
    fresh.closed_to_everybody(fresh.commit_entry(path, "160000", fresh.main(), base))


@pytest.mark.parametrize("path", [f"{SCENARIO}/one.yaml", ".github/governance/hook.yaml"])
def test_an_executable_is_no_governed_file(fresh, path):
    """Governed files are data."""
    fresh.fetch()
    blob = fresh.git.text("hash-object", "-w", "--stdin", input=b"#!/bin/sh\n")
    fresh.closed_to_everybody(fresh.commit_entry(path, "100755", blob), "executable")


def test_a_mode_changed_after_the_approval_voids_it(fresh):
    """The same bytes as an executable are another change."""
    number = fresh.propose({"notes.sh": b"#!/bin/sh\n"}, "petra")
    fresh.approve(number, "paul")
    approval = fresh.as_(HARNESS).get(number).reviews[-1]
    blob = fresh.git.text("hash-object", "-w", "--stdin", input=b"#!/bin/sh\n")
    head = fresh.commit_entry("notes.sh", "100755", blob)
    fresh.detected(fresh.force(head, [approval], pull=number, requester="petra"))


@pytest.mark.parametrize("path", [f"{SET}/.gitattributes", "clusters/.gitattributes", "promotions/.gitattributes"])
def test_attributes_among_governed_files_are_refused(fresh, path):
    """Filters, merge drivers and line ends would change what others see of the files below."""
    fresh.closed_to_everybody(fresh.commit({path: b"* filter=x merge=union\n"}), "check-failed")


def test_attributes_that_were_there_before_change_nothing_that_is_judged(fresh):
    """In the commit that people pinned, or on the machine itself: trees, merges and verify stay the same."""
    (fresh.clone / ".gitattributes").write_bytes(b"* merge=union filter=trap text eol=crlf ident\n")
    tiny.commit_to_root(fresh.clone, fresh.forge)
    pinned = fresh.workspace.setting("root")
    number = fresh.propose({f"{SET}/README.md": b"one\n"}, "oli", "one")
    other = fresh.propose({f"{SET}/README.md": b"two\n"}, "oli", "two")
    for pull in (number, other):
        fresh.approve(pull, "dana")
    fresh.merge(number)
    with refused("conflict"):
        fresh.merge(other)
    clone = fresh.plain_clone()
    plain_git("config", "filter.trap.smudge", "sed s/one/two/", folder=clone)
    assert fresh.verify(clone, pinned).changes == 1
    assert Git(clone).run("cat-file", "blob", f"{fresh.main()}:{SET}/README.md") == b"one\n"


def test_a_very_large_change_is_refused(fresh):
    """More paths than policy allows, so that nobody is asked to read them."""
    limit = fresh.governed().policy.limits.changed_paths
    head = fresh.commit({f"docs/{n}.md": b"x\n" for n in range(limit + 1)})
    fresh.closed_to_everybody(head, "too-many-paths")
