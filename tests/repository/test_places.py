"""Where a clone keeps its own: under the git directory that git itself names, never where a commit could reach."""

from __future__ import annotations

import multiprocessing
import subprocess
from pathlib import Path

import pytest

from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.signing.files import write_atomically


def git(*words: str | Path, folder: Path) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    git("init", "--quiet", folder=folder)
    policy = folder / ".github" / "governance" / "policy.yaml"
    policy.parent.mkdir(parents=True)
    policy.write_text("x: 1\n")
    git("add", "--all", folder=folder)
    git("commit", "--quiet", "--message", "one", folder=folder)
    return folder


def test_it_lies_under_the_git_directory_and_linked_work_trees_share_it(clone: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git("worktree", "add", "--quiet", linked, folder=clone)
    private = clone / ".git" / "modelsmith"
    assert Workspace.find(clone).private == private
    assert Workspace.find(linked / ".github").private == private


def test_a_git_directory_elsewhere_is_followed(clone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    git("clone", "--quiet", "--separate-git-dir", tmp_path / "objects", clone, copy, folder=tmp_path)
    assert (copy / ".git").is_file()
    assert Workspace.find(copy).private == tmp_path / "objects" / "modelsmith"


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE"])
def test_no_exported_variable_leads_elsewhere(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    git("init", "--quiet", "--bare", tmp_path / "other.git", folder=tmp_path)
    monkeypatch.setenv(name, str(tmp_path / "other.git"))
    assert Workspace.find(clone).private == clone / ".git" / "modelsmith"


def test_keys_and_store_do_not_lie_in_a_work_tree(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    for home in ("home", ".", str(clone / ".git" / ".." / "home")):
        monkeypatch.setenv("MODELSMITH_HOME", home)
        with pytest.raises(InvalidInput) as refused:
            Workspace.find(clone)
        assert refused.value.code == "home-in-clone"
    monkeypatch.setenv("MODELSMITH_HOME", ".demo/home")
    assert Workspace.find(clone).home == clone / ".demo" / "home", "which no commit may hold"


def test_links_of_a_work_tree_are_refused_and_others_are_their_user_s(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "in").mkdir(parents=True)
    (clone / "docs").symlink_to(elsewhere)
    (tmp_path / "alias").symlink_to(clone)
    monkeypatch.chdir(clone)
    for path in (
        Path("docs/x"),
        Path("docs/in/x"),
        Path("docs"),
        clone / "docs" / "x",
        tmp_path / "alias" / "docs" / "x",
    ):
        with pytest.raises(InvalidInput):
            refuse_links(clone, path)
    for path in (Path("notes/x"), tmp_path / "alias" / "x", elsewhere / "x", Path("../elsewhere/x")):
        refuse_links(clone, path)


def test_a_link_where_a_temporary_file_goes_is_not_written_through(tmp_path: Path) -> None:
    aim = tmp_path / "aim"
    (tmp_path / ".x.partial").symlink_to(aim)
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(tmp_path / "x", b"x")
    assert not aim.exists()


def _write_often(path: Path, letter: bytes) -> None:
    for size in range(200_000, 200_040):
        write_atomically(path, letter * size)


def test_of_several_writers_at_once_a_reader_sees_one_s_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"-" * 200_000)
    writers = [multiprocessing.get_context("fork").Process(target=_write_often, args=(path, c)) for c in (b"a", b"b")]
    for writer in writers:
        writer.start()
    states = set()
    while any(writer.is_alive() for writer in writers):
        data = path.read_bytes()
        states.add((data[:1], len(set(data)), len(data) >= 200_000))
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert all(letters == 1 and whole for _, letters, whole in states)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_secret_is_not_written_into_a_file_that_others_may_read(tmp_path: Path) -> None:
    """A temporary file that was left, or laid there, with more permissions than the file is to have."""
    leftover = tmp_path / ".key.partial"
    leftover.write_bytes(b"old")
    leftover.chmod(0o666)
    write_atomically(tmp_path / "key", b"secret", 0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key").read_bytes() == b"secret"
