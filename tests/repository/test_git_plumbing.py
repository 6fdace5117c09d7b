from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.repository.git import Git, Ident
from modelsmith.repository.invocation import without_passwords
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput
from modelsmith.schema.pull import Change

from .conftest import AUTHOR

NAMES = st.text("abcäß 'é\"\n-_", min_size=1, max_size=6).map(lambda name: f"n{name}")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.binary(max_size=64), min_size=1, max_size=6).filter(
    lambda files: not any(other.startswith(f"{path}/") for path in files for other in files)
)
SLOW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["work tree", "bare", "sha256"])
def git(request: pytest.FixtureRequest, tmp_path: Path) -> Git:
    flags = {"work tree": [], "bare": ["--bare"], "sha256": ["--object-format=sha256"]}[request.param]
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", *flags, str(tmp_path / "g")], check=True)
    return Git(tmp_path / "g")


@pytest.fixture
def plain(tmp_path: Path) -> Git:
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(tmp_path / "p")], check=True)
    return Git(tmp_path / "p")


@SLOW
@given(files=FILES)
def test_what_is_committed_is_what_is_read_back(plain: Git, files: dict[str, bytes]) -> None:
    commit = plain.commit_files(None, files, "all", AUTHOR)
    view = Revision(plain, commit)
    assert view.paths() == sorted(files)
    assert {path: view.read(path) for path in files} == files


@SLOW
@given(base=FILES, edits=st.dictionaries(PATHS, st.none() | st.binary(max_size=16), max_size=4))
def test_editing_and_removing_files_leaves_the_rest_alone(
    plain: Git, base: dict[str, bytes], edits: dict[str, bytes | None]
) -> None:
    parent = plain.commit_files(None, base, "base", AUTHOR)
    expected = {k: v for k, v in {**base, **edits}.items() if v is not None}
    if any(b.startswith(f"{a}/") for a in expected for b in expected):
        with pytest.raises(InvalidInput, match="needs a folder where"):
            plain.commit_files(parent, edits, "edit", AUTHOR)
        return
    commit = plain.commit_files(parent, edits, "edit", AUTHOR)
    view = Revision(plain, commit)
    assert {path: view.read(path) for path in view.paths()} == expected
    assert {p.path for p in plain.change(parent, commit).paths} == {
        path for path in {*base, *expected} if base.get(path) != expected.get(path)
    }


@SLOW
@given(base=FILES, edits=st.dictionaries(PATHS, st.binary(max_size=16), min_size=1, max_size=4), data=st.data())
def test_the_digest_of_a_change_survives_order_squash_and_rebase(
    plain: Git, base: dict[str, bytes], edits: dict[str, bytes], data: st.DataObject
) -> None:
    edits = {f"edit/{path}": content for path, content in edits.items()}
    if any(b.startswith(f"{a}/") for a in edits for b in edits):
        return
    root = plain.commit_files(None, base, "base", AUTHOR)
    at_once = plain.change(root, plain.commit_files(root, edits, "at once", AUTHOR))

    step = root
    for path, content in data.draw(st.permutations(list(edits.items()))):
        step = plain.commit_files(step, {path: content}, "step", AUTHOR)
    assert plain.change(root, step).digest() == at_once.digest()

    moved = plain.commit_files(root, {"elsewhere": b"moved on"}, "main moves", AUTHOR)
    rebased = plain.commit_files(moved, edits, "rebased", AUTHOR)
    assert plain.change(moved, rebased).digest() == at_once.digest()

    paths = data.draw(st.permutations(at_once.paths))
    assert Change(paths=tuple(paths)).digest() == at_once.digest()

    also = plain.commit_files(rebased, {".github/CODEOWNERS": b""}, "one more file", AUTHOR)
    assert plain.change(moved, also).digest() != at_once.digest()


def test_a_commit_carries_the_given_author_and_no_user_configuration(git: Git) -> None:
    git.run("config", "user.name", "Somebody Else")
    git.run("config", "commit.gpgSign", "true")
    commit = git.commit_files(None, {"a": b"1"}, "subject\n\nbody", AUTHOR, extra_parents=())
    facts = git.text("log", "-1", "--format=%an|%ae|%cn|%ce|%aI|%s|%b", commit)
    assert facts == "Maya Tan|maya@example.org|Maya Tan|maya@example.org|2026-01-31T09:00:00+05:30|subject|body"


def test_committing_touches_neither_work_tree_nor_index_nor_refs(repo: Path) -> None:
    git = Git(repo)
    before = git.run("status", "--porcelain", "-z", "-uall")
    git.commit_files(None, {"new.txt": b"x"}, "m", AUTHOR)
    assert git.run("status", "--porcelain", "-z", "-uall") == before
    assert not (repo / "new.txt").exists()
    assert git.rev("main") is None


def test_an_executable_file_stays_executable(plain: Git) -> None:
    tool = plain.path / "tool.sh"
    tool.write_text("one")
    tool.chmod(0o755)
    plain.run("add", "tool.sh")
    first = plain.commit_tree(plain.text("write-tree"), [], "m", AUTHOR)
    assert plain.list_tree(plain.commit_files(first, {"tool.sh": b"two"}, "m", AUTHOR))["tool.sh"][0] == "100755"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../x", ".git/config", "a/.GIT/hooks/x", "", "a//b", "a\\b", "."])
def test_a_commit_cannot_reach_outside_the_repository(plain: Git, path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        plain.commit_files(None, {path: b""}, "m", AUTHOR)
    assert refused.value.code == "outside-repository"


def test_a_ref_moves_only_from_where_it_is_expected(git: Git) -> None:
    commit = git.commit_files(None, {"a": b"1"}, "1", AUTHOR)
    two = git.commit_files(commit, {"a": b"2"}, "2", AUTHOR)
    git.update_ref("refs/heads/main", commit, None)
    git.update_ref("refs/heads/main", two, commit)
    for expected in (None, commit):
        with pytest.raises(InfrastructureFailure) as refused:
            git.update_ref("refs/heads/main", commit, expected)
        assert refused.value.code == "ref-moved"
    assert git.rev("main") == two
    with pytest.raises(InfrastructureFailure) as refused:
        git.update_ref("refs/heads/bad..name", commit, None)
    assert refused.value.code == "git-failed"


def test_a_merge_takes_both_sides_and_names_conflicts(git: Git) -> None:
    root = git.commit_files(None, {"a": b"1\n", "b": b"1\n"}, "root", AUTHOR)
    ours = git.commit_files(root, {"a": b"2\n"}, "left", AUTHOR)
    right = git.commit_files(root, {"b": b"2\n"}, "right", AUTHOR)
    merged = Revision(git, git.merge_tree(ours, right))
    assert (merged.read("a"), merged.read("b")) == (b"2\n", b"2\n")
    with pytest.raises(GateNotCleared) as refused:
        git.merge_tree(ours, git.commit_files(root, {"a": b"3\n"}, "against", AUTHOR))
    assert (refused.value.code, refused.value.details["paths"]) == ("conflict", ["a"])
    with pytest.raises(GateNotCleared):
        git.merge_tree(ours, git.commit_files(None, {"a": b"3\n"}, "unrelated", AUTHOR))


def test_a_merge_is_the_same_whatever_the_work_tree_or_configuration(plain: Git) -> None:
    root = plain.commit_files(None, {"a": b"1\n"}, "root", AUTHOR)
    ours = plain.commit_files(root, {"a": b"1\n2\n"}, "left", AUTHOR)
    right = plain.commit_files(root, {"a": b"1\n3\n"}, "right", AUTHOR)
    (plain.path / ".gitattributes").write_text("* merge=union\n")
    with pytest.raises(GateNotCleared):
        plain.merge_tree(ours, right)

    renamed = plain.commit_files(root, {"a": None, "b": b"1\n"}, "renamed", AUTHOR)
    before = plain.merge_tree(renamed, ours)
    plain.run("config", "merge.renames", "false")
    plain.run("config", "merge.renameLimit", "1")
    assert plain.merge_tree(renamed, ours) == before


def test_a_change_cannot_hide_a_submodule(plain: Git) -> None:
    root = plain.commit_files(None, {"a": b"1"}, "root", AUTHOR)
    modules = b'[submodule "s"]\n\tpath = s\n\turl = ./s\n\tignore = all\n'
    commit = plain.commit_files(root, {".gitmodules": modules}, "m", AUTHOR)
    plain.run("read-tree", commit)
    plain.run("update-index", "--add", "--cacheinfo", f"160000,{root},s")
    plain.run("config", "submodule.s.ignore", "all")
    (plain.path / ".gitmodules").write_bytes(modules)
    two = plain.commit_tree(plain.text("write-tree"), [commit], "submodule", AUTHOR)
    assert [(p.path, p.new_mode) for p in plain.change(commit, two).paths] == [("s", "160000")]
    with pytest.raises(InvalidInput) as refused:
        Revision(plain, two).read("s")
    assert refused.value.code == "not-a-file"


def test_replacement_refs_and_grafts_change_nothing(git: Git) -> None:
    first = git.commit_files(None, {"a": b"1"}, "one", AUTHOR)
    two = git.commit_files(first, {"a": b"2"}, "two", AUTHOR)
    honest, forged = (git.list_tree(commit)["a"][1] for commit in (first, two))
    subprocess.run(["git", "-C", str(git.path), "replace", honest, forged], check=True)
    inside = Path(git.text("rev-parse", "--absolute-git-dir"))
    (inside / "info").mkdir(exist_ok=True)
    (inside / "info" / "grafts").write_text(f"{two}\n")
    assert git.read_blob(honest) == b"1"
    assert [commit.subject for commit in git.first_parent_log(two)] == ["one", "two"]
    assert git.is_ancestor(first, two)
    assert not git.is_ancestor(two, first)


def test_the_log_follows_first_parents_oldest_first(git: Git) -> None:
    first = git.commit_files(None, {"a": b"1"}, "one", AUTHOR)
    side = git.commit_files(first, {"b": b"1"}, "side", AUTHOR)
    two = git.commit_files(first, {"a": b"2"}, "two", AUTHOR, extra_parents=[side])
    log = git.first_parent_log(two)
    assert [(commit.id, commit.parents, commit.subject) for commit in log] == [
        (first, (), "one"),
        (two, (first, side), "two"),
    ]
    assert log[1].tree == git.text("rev-parse", f"{two}^{{tree}}")


def test_a_missing_object_is_named(git: Git) -> None:
    git.commit_files(None, {"a": b"1"}, "one", AUTHOR)
    with pytest.raises(InfrastructureFailure) as failed:
        git.read_blob("1" * 40)
    assert failed.value.code == "missing-object"


def test_names_that_look_like_options_are_no_revisions(git: Git) -> None:
    assert git.rev("--all") is None
    assert git.rev("nothing-here") is None
    with pytest.raises(InvalidInput):
        git.list_tree("--help")


@pytest.mark.parametrize(
    "url",
    ["user:secret@127.0.0.1:1/x.git", "secret@127.0.0.1:1/x", "user:secret@secret@127.0.0.1:1/x",
     "user:secret/a@127.0.0.1:1/x", "127.0.0.1:1/x.git?token=secret"],
)  # fmt: skip
def test_no_password_of_a_url_is_in_what_git_said(plain: Git, url: str) -> None:
    """One with signs in it that end a password to git makes git tell the whole URL."""
    with pytest.raises(InfrastructureFailure) as failed:
        plain.run("fetch", f"https://{url}")
    assert "secret" not in failed.value.message + str(failed.value.details)
    assert without_passwords(f"at https://{url}'") == f"at https://127.0.0.1:1/x{'.git' if '.git' in url else ''}'"


def test_a_url_without_a_password_is_told_as_it_is() -> None:
    words = "to https://host:8443/team@corp/x.git, ssh://[::1]:22/a and git@host:x"
    assert without_passwords(words) == words


def test_git_failing_and_git_missing_are_told_apart(
    plain: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InfrastructureFailure) as failed:
        plain.run("fetch", "https://user:secret@127.0.0.1:1/x.git")
    assert failed.value.code == "unreachable"
    assert "secret" not in failed.value.message + str(failed.value.details)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureFailure) as missing:
        plain.run("version")
    assert missing.value.code == "git-missing"


def test_a_folder_inside_a_repository_is_not_taken_for_it(plain: Git) -> None:
    (plain.path / "sub").mkdir()
    with pytest.raises(InfrastructureFailure):
        Git(plain.path / "sub").run("rev-parse", "HEAD")


def test_a_calling_gits_environment_does_not_leak_in(plain: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = plain.commit_files(None, {"a": b"1"}, "one", AUTHOR)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nowhere/objects")
    assert plain.rev(commit) == commit


def test_objects_that_a_push_has_quarantined_can_be_read_in_its_hook(tmp_path: Path, plain: Git) -> None:
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    hook = bare / "hooks" / "pre-receive"
    python = f"{sys.executable} -c"
    code = (
        "import sys; from pathlib import Path; from modelsmith.repository.git import Git;"
        "new = sys.stdin.read().split()[1]; print(Git(Path('.').resolve()).list_tree(new))"
    )
    hook.write_text(f'#!/bin/sh\nPYTHONPATH="{Path.cwd()}" {python} "{code}"\n')
    hook.chmod(0o755)
    commit = plain.commit_files(None, {"pushed.txt": b"1"}, "one", AUTHOR)
    process = subprocess.run(
        ["git", "-C", str(plain.path), "push", str(bare), f"{commit}:refs/heads/main"], capture_output=True, text=True
    )
    assert "pushed.txt" in process.stderr, process.stderr
    assert process.returncode == 0


def test_hooks_of_the_clone_do_not_run(plain: Git) -> None:
    commit = plain.commit_files(None, {"a": b"1"}, "one", AUTHOR)
    hook = plain.path / ".git" / "hooks" / "reference-transaction"
    hook.write_text("#!/bin/sh\ntouch ran\nexit 1\n")
    hook.chmod(0o755)
    plain.update_ref("refs/heads/main", commit, None)
    assert not list(plain.path.rglob("ran"))


def test_a_time_before_1973_is_kept(plain: Git) -> None:
    when = datetime(1971, 1, 1, tzinfo=UTC)
    commit = plain.commit_files(None, {"a": b""}, "m", Ident("M", "m@x", when))
    assert plain.text("log", "-1", "--format=%at", commit) == str(int(when.timestamp()))


def test_what_was_merged_crosswise_is_not_merged_until_it_has_one_base(git, monkeypatch):
    """From each such base git would merge their bases first, and theirs: twice as long with each crossing."""
    root = git.commit_files(None, {"a": b"1\n"}, "root", AUTHOR)
    ours, theirs = (git.commit_files(root, {name: b"1\n"}, name, AUTHOR) for name in "bc")
    main = git.commit_files(ours, {"c": b"1\n"}, "main takes theirs", AUTHOR, [theirs])
    head = git.commit_files(theirs, {"b": b"1\n", "d": b"1\n"}, "theirs takes ours", AUTHOR, [ours])
    for look in (git.merge_tree, git.merge_base):
        with pytest.raises(GateNotCleared, match="2 commits are the latest") as error:
            look(main, head)
        assert error.value.code == "several-bases"
    mended = git.commit_files(head, {"e": b"1\n"}, "main again", AUTHOR, [main])
    assert git.merge_base(main, mended) == main
    assert git.merge_tree(main, mended) == git.tree(mended)
    monkeypatch.setattr("modelsmith.repository.git.MERGE_SECONDS", 0.0)
    with pytest.raises(GateNotCleared, match="takes longer"):
        git.merge_tree(ours, mended)


def test_what_cannot_change_is_asked_once_and_of_this_repository(git, tmp_path, monkeypatch):
    """Main moves, ids do not: what is remembered is about ids, and never told of a repository that lacks them."""
    base = git.commit_files(None, {"a": b"1\n"}, "base", AUTHOR)
    ours, theirs = (git.commit_files(base, {name: b"1\n"}, name, AUTHOR) for name in "bc")
    git.update_ref("refs/heads/main", base, None)
    first = git.merge_tree(ours, theirs), git.merge_base(ours, theirs), git.list_tree(ours), git.first_parent_log(ours)
    assert [commit.id for commit in git.first_parent_log("main")] == [base]
    git.update_ref("refs/heads/main", ours, base)
    assert [commit.id for commit in git.first_parent_log("main")] == [base, ours]
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *args, **options: pytest.fail(f"git was asked again: {args}"))
        again = (
            git.merge_tree(ours, theirs),
            git.merge_base(ours, theirs),
            git.list_tree(ours),
            git.first_parent_log(ours),
        )
    assert again == first
    other = Git(tmp_path / "other")
    other.path.mkdir()
    other.init()
    for ask in (lambda: other.merge_base(ours, theirs), lambda: other.first_parent_log(ours)):
        with pytest.raises(InfrastructureFailure):
            ask()


def test_a_setting_is_read_as_it_was_written_last(plain):
    for number in range(20):
        plain.run("config", "--local", "modelsmith.forge", f"place-{number % 2}")
        assert plain.setting("modelsmith.forge") == f"place-{number % 2}"
    (plain.path / ".git" / "config").unlink()
    assert plain.setting("modelsmith.forge") is None


def test_no_file_of_a_commit_is_taken_for_the_repository_itself(plain):
    """A linked work tree has a file ``.git``; HEAD and config beside it came with a commit."""
    planted = {"HEAD": b"ref: refs/heads/evil\n", "config": b"[modelsmith]\n\tforge = evil\n", "objects/x": b"x"}
    base = plain.commit_files(None, planted, "planted", AUTHOR)
    ours, theirs = (plain.commit_files(base, {name: b"1\n"}, name, AUTHOR) for name in "bc")
    plain.update_ref("refs/heads/other", base, None)
    plain.run("config", "--local", "modelsmith.forge", "mine")
    plain.run("worktree", "add", "--quiet", "linked", "other")
    linked = Git(plain.path / "linked")
    assert linked.setting("modelsmith.forge") == "mine"
    assert linked.merge_tree(ours, theirs) == plain.merge_tree(ours, theirs)


def test_a_setting_that_git_cannot_read_is_not_taken_for_none(plain):
    git = plain
    git.run("config", "--local", "--add", "modelsmith.endpoint", "a.example")
    git.run("config", "--local", "--add", "modelsmith.endpoint", "b.example")
    assert git.settings("modelsmith.endpoint") == ("a.example", "b.example")
    assert git.settings("modelsmith.nothing") == ()
    assert git.setting("modelsmith.nothing") is None
    (plain.path / ".git" / "config").write_text("[broken\n")
    for read_setting in (git.setting, git.settings):
        with pytest.raises(InfrastructureFailure):
            read_setting("modelsmith.endpoint")


def test_what_git_said_of_some_paths_is_remembered_for_those_paths_alone(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "asked")], check=True)
    git = Git(tmp_path / "asked")
    first = git.commit_files(None, {"a": b"1"}, "one", AUTHOR)
    two = git.commit_files(first, {"b": b"2"}, "two", AUTHOR)

    def commits(*paths: str) -> list[str]:
        return (git.lasting("rev-list", ids=[two], paths=paths) or b"").decode().split()

    expected = {(): [two, first], ("a",): [first], ("b",): [two], ("a", "b"): [two, first]}
    assert {paths: commits(*paths) for paths in expected} == expected
    with patch.object(Git, "attempt", side_effect=AssertionError):
        assert {paths: commits(*paths) for paths in expected} == expected
