"""`eval_tree` names a tree that holds what was asked, or none."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelsmith.repository.eval_tree import UNCOMMITTED, edited_paths, eval_tree, overwritten
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.tree import WorkTree

FOLDER = "evals/d/s"
CASE = f"{FOLDER}/scenarios/c/case-01.yaml"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "clone"
    (root / CASE).parent.mkdir(parents=True)
    (root / CASE).write_text("id: case-01\n")
    (root / FOLDER / "evalset.yaml").write_text("id: s\n")
    run(root, "init", "-q")
    run(root, "add", "-A")
    run(root, "commit", "-qm", "one")
    return root


def run(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", "-C", root, *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def named(root: Path) -> tuple[str, tuple[str, ...]]:
    return eval_tree(Git(root), WorkTree(root), FOLDER)


def test_files_as_committed_are_the_tree_of_the_commit(clone: Path) -> None:
    (clone / FOLDER / ".DS_Store").write_text("no governed file")
    (clone / "elsewhere.txt").write_text("not of the set")
    assert named(clone) == (run(clone, "rev-parse", f"HEAD:{FOLDER}"), ())


def ignored(root: Path) -> str:
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "exclude").write_text("*-09.yaml\n")
    path = f"{FOLDER}/scenarios/c/case-09.yaml"
    (root / path).write_text("id: case-09\n")
    return path


def edited(root: Path) -> str:
    (root / CASE).write_text("id: case-02\n")
    return CASE


def edited_in_silence(root: Path) -> str:
    run(root, "update-index", "--assume-unchanged", CASE)
    return edited(root)


def removed(root: Path) -> str:
    (root / CASE).unlink()
    return CASE


def staged(root: Path) -> str:
    path = edited(root)
    run(root, "add", "-A")
    return path


@pytest.mark.parametrize("change", [ignored, edited, edited_in_silence, removed, staged])
def test_what_no_commit_holds_is_named_and_no_tree_stands_for_it(clone: Path, change) -> None:
    path = change(clone)
    if change in (ignored, edited_in_silence):
        assert run(clone, "status", "--porcelain") == "", "git status says nothing"
    assert named(clone) == (UNCOMMITTED, (path,))


def test_a_repository_of_sha256_ids_is_no_other(tmp_path: Path) -> None:
    root = tmp_path / "clone"
    (root / FOLDER).mkdir(parents=True)
    (root / FOLDER / "evalset.yaml").write_text("id: s\n")
    subprocess.run(["git", "init", "-q", "--object-format=sha256", root], check=True, env={**os.environ})
    run(root, "add", "-A")
    run(root, "commit", "-qm", "one")
    tree, differing = named(root)
    assert (len(tree), differing) == (64, ())


def test_only_a_file_that_would_be_lost_stands_in_the_way(clone: Path) -> None:
    """An edit elsewhere stays as it is, and no filter that the clone's settings name is run to find out."""
    git, files = Git(clone), WorkTree(clone)
    trap = clone.parent / "ran"
    run(clone, "config", "filter.trap.clean", f"touch {trap}; cat")
    (clone / ".git" / "info" / "attributes").write_text("* filter=trap\n")
    old = git.rev("HEAD")
    assert old
    ident = Ident("t", "t@example.org", datetime(2026, 1, 1, tzinfo=UTC))
    new = git.commit_files(old, {CASE: b"id: case-02\n", "docs/new.md": b"new\n"}, "two", ident)
    assert not overwritten(git, files, old, new)
    (clone / "notes.txt").write_text("mine")
    (clone / FOLDER / "evalset.yaml").write_text("id: mine\n")
    assert not overwritten(git, files, old, new)
    assert edited_paths(git, files, old) == [f"{FOLDER}/evalset.yaml"]
    assert edited_paths(git, files, old, without="evals") == []
    (clone / "docs").mkdir()
    (clone / "docs" / "new.md").write_text("mine\n")
    assert overwritten(git, files, old, new)
    (clone / "docs" / "new.md").unlink()
    (clone / CASE).write_text("mine\n")
    assert overwritten(git, files, old, new)
    assert overwritten(git, files, None, new)
    assert not trap.exists()


def test_what_can_be_run_and_where_links_lead_count_as_changes(clone: Path) -> None:
    """What git would show as changed, unless the clone's settings say that its disk keeps no such thing."""
    link, script = clone / "latest", clone / "run.sh"
    link.symlink_to("evals")
    script.write_text("true\n")
    script.chmod(0o755)
    run(clone, "add", "-A")
    run(clone, "commit", "-qm", "link and script")
    git, files = Git(clone), WorkTree(clone)
    head = git.rev("HEAD")
    assert head
    assert edited_paths(git, files, head) == []
    script.chmod(0o644)
    link.unlink()
    link.symlink_to("elsewhere")
    assert edited_paths(git, files, head) == ["latest", "run.sh"]
    link.unlink()
    link.write_text("evals")
    assert edited_paths(git, files, head) == ["latest", "run.sh"]
    run(clone, "config", "core.fileMode", "false")
    run(clone, "config", "core.symlinks", "false")
    assert edited_paths(git, files, head) == []
    link.write_text("elsewhere")
    assert edited_paths(git, files, head) == ["latest"]
