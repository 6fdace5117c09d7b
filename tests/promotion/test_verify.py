"""``modelsmith verify`` in a clone: which root, what it remembers, and what it says when main was rewound."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from modelsmith import __version__
from modelsmith.operations.init import InitRequest
from modelsmith.operations.init import run as init
from modelsmith.operations.verify import VerifyRequest, run
from modelsmith.promotion.root import root_fingerprint
from modelsmith.repository.git import Git
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

from .conftest import WHO, candidate


class Clone:
    """A clone with its own main and settings."""

    def __init__(self, folder, template):
        shutil.copytree(template.git.path, folder / "clone")
        self.workspace = Workspace(folder / "clone", home=folder / "home")
        self.git = self.workspace.git
        self.memory = self.workspace.private / "verified.json"
        self.here = replace(template, git=self.git)
        self.said = []

    def add(self, number):
        """Main with one more candidate."""
        self.move(self.here.merge(candidate(self.here, number), number=number))

    def move(self, repository):
        self.here = repository
        self.git.run("update-ref", "refs/heads/main", repository.tip)

    def verify(self, **request):
        self.said = []
        return run(replace(self.workspace, notify=self.said.append), VerifyRequest(**request))

    def refused(self, **request):
        with pytest.raises(IntegrityFailure) as failure:
            self.verify(**request)
        return failure.value

    def unpin(self):
        self.git.run("config", "--unset", "modelsmith.root")

    def edit_memory(self, **fields):
        self.memory.write_text(json.dumps(json.loads(self.memory.read_text()) | fields))


@pytest.fixture(scope="module")
def two_candidates(repository):
    merged = repository.merge(candidate(repository, 1), number=1)
    return merged.merge(candidate(merged, 2), number=2)


@pytest.fixture(scope="module")
def packed(two_candidates, tmp_path_factory):
    """A copy with what leads to its main and nothing that other tests made, in few files: each test copies it."""
    folder = shutil.copytree(two_candidates.git.path, tmp_path_factory.mktemp("packed") / "clone")
    git = Git(folder)
    git.run("update-ref", "refs/heads/main", two_candidates.tip)
    git.run("repack", "-a", "-d", "--quiet")
    git.run("prune", "--expire=now")
    return replace(two_candidates, git=git)


@pytest.fixture
def clone(packed, tmp_path):
    clone_made = Clone(tmp_path, packed)
    clone_made.move(clone_made.here)
    return clone_made


def test_a_second_run_judges_only_what_is_new(clone):
    first = clone.verify()
    assert (first.changes, first.promotions, first.remembered) == (2, 2, 0)
    clone.add(3)
    second = clone.verify()
    assert (second.changes, second.promotions, second.remembered) == (3, 3, 2)
    assert [progress.total for progress in clone.said] == [2], "one change and its receipts"
    assert (second.tip, second.root) == (clone.here.tip, first.root)
    third = clone.verify()
    assert (third.changes, third.remembered, clone.said) == (3, 3, [])


def test_full_judges_everything_again(clone):
    clone.verify()
    assert clone.verify(full=True).remembered == 0
    assert len(clone.said) == 2


def test_another_version_of_the_toolkit_judges_everything_again(clone):
    clone.verify()
    clone.edit_memory(toolkit="0.0.0")
    assert clone.verify().remembered == 0
    assert json.loads(clone.memory.read_text())["toolkit"] == __version__


def test_a_step_that_fails_after_a_remembered_tip_is_found_not_remembered(clone):
    clone.verify()
    before = clone.memory.read_bytes()
    clone.move(clone.here.commit({"notes.md": b"x"}))
    refused = clone.refused()
    assert (refused.code, refused.details["commit"]) == ("history-does-not-hold", clone.here.tip)
    assert clone.memory.read_bytes() == before


def test_a_rewound_main_is_an_integrity_failure_until_a_person_accepts_it(clone, repository):
    verified = clone.verify().tip
    clone.move(replace(repository, git=clone.git))
    clone.add(1)
    refused = clone.refused()
    assert (refused.code, refused.details["commit"]) == ("rewound-main", verified)
    accepted = clone.verify(full=True)
    assert (accepted.rewound_from, accepted.changes) == (verified, 1)
    assert clone.verify().rewound_from is None


def test_a_main_that_took_in_the_verified_one_from_the_side_is_rewritten(clone, repository):
    verified = clone.verify().tip
    tree = clone.git.text("rev-parse", f"{verified}^{{tree}}")
    sideways = clone.git.commit_tree(tree, [repository.tip, verified], "Merge\n", WHO)
    clone.move(replace(clone.here, tip=sideways))
    assert clone.git.is_ancestor(verified, sideways)
    assert clone.refused().code == "rewound-main"


def test_looking_at_an_older_commit_is_no_rewind_and_changes_no_memory(clone):
    clone.verify()
    before = clone.memory.read_bytes()
    older = clone.verify(revision=clone.git.text("rev-parse", "main~2"))
    assert (older.changes, older.remembered) == (1, 0)
    assert clone.memory.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tip": "x"}', "\0" * 100])
def test_a_torn_or_strange_memory_is_ignored(clone, text):
    clone.verify()
    clone.memory.write_text(text)
    assert clone.verify().remembered == 0
    assert clone.verify().remembered == 2


def test_a_memory_that_cannot_be_written_is_no_failure(clone):
    shutil.rmtree(clone.memory.parent, ignore_errors=True)
    clone.memory.parent.write_text("a file where the folder should be")
    assert clone.verify().verified
    assert "nothing remembered" in clone.said[-1].message


def test_init_pins_the_root_that_it_prints(tmp_path):
    initialised = init(Workspace(tmp_path, home=tmp_path / "home"), InitRequest(directory=tmp_path / "new"))
    result = run(Workspace(tmp_path / "new"), VerifyRequest())
    assert (result.root, result.pinned, result.pin) == (initialised.root, True, "git config modelsmith.root")
    assert Git(tmp_path / "new").text("config", "modelsmith.root") == initialised.root


def test_a_plain_clone_says_that_its_root_is_not_pinned(clone):
    clone.unpin()
    result = clone.verify()
    assert (result.pinned, result.pin) == (False, None)
    assert clone.verify(root=result.root).pin == "--root"


def begin_elsewhere(clone):
    """Main begins anew with other governance, consistent in itself."""
    people = clone.here.main.tree.read(".github/governance/people.yaml")
    first = clone.git.first_parent_log("main")[0]
    edited = {".github/governance/people.yaml": people.replace(b"id: petra", b"id: mallory")}
    tree = clone.git.text("rev-parse", f"{clone.git.commit_files(first.id, edited, 'm', WHO)}^{{tree}}")
    clone.move(replace(clone.here, tip=clone.git.commit_tree(tree, [], "Start\n", WHO)))
    with ObjectReader(clone.git.path) as reader:
        return root_fingerprint(reader, clone.here.tip)


def test_a_pinned_clone_refuses_a_main_that_begins_elsewhere(clone):
    begin_elsewhere(clone)
    assert clone.refused().code == "unknown-root"


def test_an_unpinned_clone_notices_that_main_begins_elsewhere_than_before(clone):
    clone.unpin()
    before = clone.verify().root
    root = begin_elsewhere(clone)
    for full in (False, True):
        refused = clone.refused(full=full)
        assert (refused.code, refused.details) == ("other-root", {"root": root, "remembered": before})
    assert clone.refused(root=root).code == "rewound-main", "a root that is named is used; the rewind is still said"
    accepted = clone.verify(root=root, full=True)
    assert (accepted.root, accepted.changes, bool(accepted.rewound_from)) == (root, 0, True)
    assert clone.verify().root == root


def test_another_root_that_is_named_judges_everything_from_there(clone, repository):
    first = clone.verify()
    governed = replace(repository, git=clone.git).merge({"docs/note.md": b"x"}, [("petra", "petra")], number=9)
    clone.move(governed)
    clone.add(1)
    clone.memory.unlink()
    assert clone.verify().changes == 2
    with ObjectReader(clone.git.path) as reader:
        later = root_fingerprint(reader, governed.tip)
    assert later != first.root
    result = clone.verify(root=later)
    assert (result.root, result.changes, result.remembered) == (later, 1, 0)
    assert clone.refused().code == "other-root", "the clone pins the first one; the last run used another"
    assert clone.verify(root=first.root).changes == 2


def test_a_tag_named_like_the_branch_is_not_what_is_verified(clone):
    honest = clone.here.tip
    clone.git.run("update-ref", "refs/tags/main", honest)
    clone.move(clone.here.commit({"notes.md": b"x"}))
    assert clone.refused().code == "ambiguous-name"
    assert clone.refused(revision="refs/heads/main").details["commit"] == clone.here.tip


def test_a_repository_without_a_commit_is_invalid_input_as_elsewhere(tmp_path):
    Git(tmp_path).run("init", "--quiet", str(tmp_path))
    with pytest.raises(InvalidInput) as refused:
        run(Workspace(tmp_path), VerifyRequest())
    assert refused.value.code == "no-commit"


def test_a_revision_that_names_nothing_or_only_a_tree_is_invalid_input(clone):
    for name in ("nowhere", clone.git.text("rev-parse", "main^{tree}")):
        with pytest.raises(InvalidInput) as refused:
            clone.verify(revision=name)
        assert refused.value.code == "bad-revision"
