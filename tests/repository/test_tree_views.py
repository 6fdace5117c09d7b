from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelsmith.repository.git import Git, Ident
from modelsmith.repository.tree import Revision, Tree, WorkTree, read_each
from modelsmith.schema.errors import InvalidInput

AUTHOR = Ident("Maya", "maya@example.org", datetime(2026, 1, 31, tzinfo=UTC))
FILES = {"a.txt": b"1", "evals/x.yaml": b"2", "evals-other/y.yaml": b"3", "evals/deep/z.yaml": b"4"}


def _link(root: Path) -> None:
    (root.parent / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(root.parent / "secret.txt")
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "b.yaml").write_text("secret")
    (root / "linked").symlink_to(root.parent / "outside")


@pytest.fixture(params=["work tree", "revision"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    root = tmp_path / "repo"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    _link(root)
    if request.param == "work tree":
        return WorkTree(root)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    git = Git(root)
    git.run("add", "--all")
    commit = git.commit_tree(git.text("write-tree"), [], "m", AUTHOR)
    git.update_ref("refs/heads/main", commit, None)
    return Revision(git, "refs/heads/main")


def test_files_are_listed_sorted_and_a_prefix_is_a_folder_not_a_string(tree: Tree) -> None:
    assert tree.paths() == sorted([*FILES, "link.txt", "linked"])
    assert tree.paths("evals") == tree.paths("evals/") == ["evals/deep/z.yaml", "evals/x.yaml"]
    assert tree.paths("a.txt") == ["a.txt"]
    assert tree.paths("nothing/here") == []


def test_files_are_read_and_missing_ones_named(tree: Tree) -> None:
    assert tree.read("evals/deep/z.yaml") == b"4"
    assert (tree.exists("a.txt"), tree.exists("b.txt"), tree.exists("evals")) == (True, False, False)
    for path in ("b.txt", "evals/none/z.yaml", "a.txt/below"):
        with pytest.raises(InvalidInput) as missing:
            tree.read(path)
        assert missing.value.code == "missing-file"


def test_symbolic_links_are_refused_wherever_they_lead(tree: Tree) -> None:
    with pytest.raises(InvalidInput) as refused:
        tree.read("link.txt")
    assert refused.value.code == "not-a-file"
    with pytest.raises(InvalidInput):
        tree.read("linked")
    with pytest.raises(InvalidInput):
        tree.read("linked/b.yaml")


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "a/../../secret.txt", ".git/config", "", "./a.txt"])
def test_paths_that_leave_the_root_are_refused(tree: Tree, path: str) -> None:
    for look in (tree.read, tree.exists):
        with pytest.raises(InvalidInput) as refused:
            look(path)
        assert refused.value.code == "outside-repository"
    with pytest.raises(InvalidInput):
        tree.paths("../outside")


def test_many_files_are_read_at_once_and_the_unreadable_ones_explained(tree: Tree) -> None:
    contents, refused = read_each(tree, ["a.txt", "link.txt", "b.txt", "evals/x.yaml"])
    assert contents == {"a.txt": b"1", "evals/x.yaml": b"2"}
    assert {path: error.code for path, error in refused.items()} == {"link.txt": "not-a-file", "b.txt": "missing-file"}


def test_the_work_tree_leaves_out_what_is_no_content(tmp_path: Path) -> None:
    for folder in (".git", ".iterate", ".venv", "evals/.git"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x").write_text("")
    (tmp_path / "evals" / "x.yaml").write_text("")
    assert WorkTree(tmp_path).paths() == ["evals/x.yaml"]
    assert WorkTree(tmp_path).paths(".iterate") == []


def test_a_named_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InvalidInput) as refused:
        WorkTree(tmp_path).read("pipe.yaml")
    assert refused.value.code == "not-a-file"


def test_a_repository_without_a_commit_says_how_to_make_one(repo: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        Revision(Git(repo), "HEAD")
    assert refused.value.code == "no-commit"
    assert "git commit" in refused.value.mend


def test_an_unknown_revision_is_named_and_a_merged_tree_read_uncommitted(repo: Path) -> None:
    git = Git(repo)
    commit = git.commit_files(None, {"a": b"1"}, "m", AUTHOR)
    git.update_ref("refs/heads/main", commit, None)
    with pytest.raises(InvalidInput) as refused:
        Revision(git, "elsewhere")
    assert refused.value.code == "bad-revision"
    ours, right = (git.commit_files(commit, {name: b"2"}, "m", AUTHOR) for name in ("b", "c"))
    assert Revision(git, git.merge_tree(ours, right)).paths() == ["a", "b", "c"]


def test_a_whole_set_is_read_from_git_by_one_process(
    repo: Path, put: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git(repo)
    commit = git.commit_files(None, {f"evals/f{n}.yaml": b"%d" % n for n in range(200)}, "m", AUTHOR)
    view = Revision(git, commit)
    paths = view.paths()
    log = tmp_path / "calls"
    real = subprocess.check_output(["which", "git"], text=True).strip()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\necho call >> {log}\nexec {real} "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    contents, _ = read_each(view, paths)
    assert len(contents) == 200
    assert log.read_text().split() == ["call"]
