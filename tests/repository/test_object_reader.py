"""One process reads a whole history: its answers are git's own, and what does not fit its id is refused."""

from __future__ import annotations

import hashlib
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.repository import comparison, objects, tree_objects
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.listing import Entry
from modelsmith.repository.look_ahead import look_ahead
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
    IntegrityFailure,
    InvalidInput,
    ModelsmithError,
)
from modelsmith.schema.governance import DEEPEST_PATH

from .conftest import AUTHOR

NAMES = st.sampled_from(["a", "b", "a.b", "a-", "ä", "c d", "z"])
FILES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=3), max_size=8)
SLOW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["sha1", "sha256"])
def git(request: pytest.FixtureRequest, tmp_path: Path) -> Git:
    subprocess.run(["git", "init", "--quiet", f"--object-format={request.param}", str(tmp_path / "g")], check=True)
    return Git(tmp_path / "g")


def without_overlaps(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not any(other.startswith(f"{path}/") for other in files)}


@SLOW
@given(first=FILES, second=FILES, prefix=st.sampled_from(["", "a", "a/b", "ä", "z/z"]))
def test_what_a_tree_holds_and_what_two_differ_in_is_what_git_says(
    git: Git, first: dict[str, bytes], second: dict[str, bytes], prefix: str
) -> None:
    old, two = (git.commit_files(None, without_overlaps(files), "m", AUTHOR) for files in (first, second))
    with ObjectReader(git.path) as reader:
        assert reader.change(old, two) == git.change(old, two)
        assert reader.list_tree(old, prefix) == git.list_tree(old, prefix)
        for rev in (old, git.text("rev-parse", f"{two}^{{tree}}")):
            ours, theirs = Revision(reader, rev), Revision(git, rev)
            assert ours.entries(prefix) == theirs.entries(prefix)
            assert {path: ours.read(path) for path in ours.paths()} == {p: theirs.read(p) for p in theirs.paths()}
            assert [ours.exists(path) for path in first] == [theirs.exists(path) for path in first]


def test_modes_links_submodules_and_turned_folders_are_seen_as_by_git(git: Git) -> None:
    blob = git.text("hash-object", "-w", "--stdin", input=b"content")
    commit = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)

    def tree(*lines: str) -> str:
        return git.text("mktree", "--missing", input="".join(f"{line}\n" for line in lines).encode())

    below = tree(f"100644 blob {blob}\tinner")
    trees = [
        tree(f"100644 blob {blob}\ta", f"100644 blob {blob}\tb"),
        tree(f"100755 blob {blob}\ta", f"040000 tree {below}\tb"),
        tree(f"120000 blob {blob}\ta", f"160000 commit {commit}\tb"),
    ]
    with ObjectReader(git.path) as reader:
        for old in trees:
            assert reader.list_tree(old) == git.list_tree(old)
            for new in trees:
                assert reader.change(old, new) == git.change(old, new)


def test_what_commits_bring_is_what_none_of_their_parents_holds_there(git: Git) -> None:
    base = git.commit_files(None, {"a/x": b"1", "b": b"1"}, "m", AUTHOR)
    ours = git.commit_files(base, {"a/x": b"2", "c": b"1"}, "m", AUTHOR)
    right = git.commit_files(base, {"b": None, "d/e": b"3"}, "m", AUTHOR)
    both = git.commit_files(ours, {"b": None, "d/e": b"3", "new": b"1"}, "m", AUTHOR, [right])

    def added(*commits: str) -> set[tuple[str, str]]:
        return {(entry.commit, entry.path) for entry in git.added_files(commits)}

    assert added(base) == {(base, "a/x"), (base, "b")}
    assert added(ours, right) == {(ours, "a/x"), (ours, "c"), (right, "d/e")}
    assert added(both) == {(both, "new")}
    assert added(both, right, ours) == added(ours) | added(right) | added(both)


def test_commits_that_bring_more_than_anybody_looks_at_are_refused(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    base = git.commit_files(None, {"a/x": b"1", "b": b"1"}, "m", AUTHOR)
    for most in ("MOST_ADDED", "MOST_LOOKED_AT"):
        with monkeypatch.context() as patch:
            patch.setattr(comparison, most, 1)
            with pytest.raises(GateNotCleared, match="commits bring"):
                git.added_files([base])


def test_a_parent_named_many_times_costs_what_one_does(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    base = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)
    wide = git.commit_files(base, {str(number): b"1" for number in range(50)}, "m", AUTHOR)
    tree, ident = git.text("rev-parse", f"{wide}^{{tree}}"), "x <x> 1 +0000"
    others = [git.commit_files(base, {"x": str(number).encode()}, "m", AUTHOR) for number in range(2, 5)]
    commits = {}
    for name, parents in (("one", [base]), ("same", [base] * 99), ("many", others)):
        named = "".join(f"parent {parent}\n" for parent in parents)
        raw = f"tree {tree}\n{named}author {ident}\ncommitter {ident}\n\nm\n"
        commits[name] = git.text("hash-object", "-t", "commit", "-w", "--stdin", input=raw.encode())
    monkeypatch.setattr(comparison, "MOST_LOOKED_AT", 100)
    assert [len(git.added_files([commits[name]])) for name in ("one", "same")] == [50, 50]
    with pytest.raises(GateNotCleared, match="commits bring too much"):
        git.added_files([commits["many"]])


class Counted(ObjectReader):
    """Counts how often a folder is looked into."""

    looks = 0

    def entries(self, tree: str) -> Mapping[str, Entry]:
        self.looks += 1
        return super().entries(tree)


def test_folders_too_deep_to_stand_anywhere_are_not_walked_down(git: Git) -> None:
    base = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)
    tree = git.tree(base)
    for _ in range(200):
        tree = git.text("mktree", input=f"040000 tree {tree}\td\n".encode())
    head = git.commit_tree(str(tree), [base], "m", AUTHOR)
    with Counted(git.path) as reader:
        for look in (lambda: reader.change(base, head), lambda: reader.added_files([head])):
            reader.looks = 0
            with pytest.raises(GateNotCleared, match="levels deep"):
                look()
            assert reader.looks <= 2 * DEEPEST_PATH + 2
        assert len(reader.change(head, base).paths) == 2, "what goes may be as deep as it is"


def test_wide_folders_that_name_one_another_are_refused_by_what_waits(
    git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = git.text("mktree")
    for _ in range(8):
        tree = git.text("mktree", input="".join(f"040000 tree {tree}\t{name}\n" for name in range(40)).encode())
    base = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)
    head = git.commit_tree(tree, [base], "m", AUTHOR)
    monkeypatch.setattr(comparison, "MOST_PATHS", 100)
    monkeypatch.setattr(comparison, "MOST_ADDED", 100)
    with Counted(git.path) as reader:
        for look in (lambda: reader.change(base, head), lambda: reader.added_files([head])):
            with pytest.raises(GateNotCleared, match="more"):
                look()
        assert reader.looks < 20


def test_folders_are_remembered_by_bytes_and_read_again_when_dropped(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{folder}/{name}": b"1" for folder in "abcdefgh" for name in range(20)}
    commit = git.commit_files(None, files, "m", AUTHOR)
    monkeypatch.setattr(objects, "_TREES_KEPT", 3000)
    with ObjectReader(git.path) as reader:
        for _ in range(2):
            assert reader.list_tree(commit).keys() == files.keys()
        assert sum(size for _, size in reader._trees._entries.values()) <= 3000
        assert 0 < len(reader._trees._entries) < 9
    monkeypatch.setattr(objects, "LARGEST_FOLDER", 200)
    with ObjectReader(git.path) as reader, pytest.raises(GateNotCleared, match="list of names"):
        reader.list_tree(commit)


@SLOW
@given(shape=st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 9)), min_size=1, max_size=9))
def test_first_parents_are_those_that_git_walks(git: Git, shape: list[tuple[int, int | None]]) -> None:
    start = git.commit_files(None, {"x": b"1"}, "Start\n", AUTHOR)
    tree, commits = git.text("rev-parse", f"{start}^{{tree}}"), [start]
    for number, parents in enumerate(shape):
        distinct = dict.fromkeys(commits[parent % len(commits)] for parent in parents if parent is not None)
        ident = Ident(f"Author {number}", f"{number}@example.org", AUTHOR.when)
        commits.append(git.commit_tree(tree, list(distinct), f"Commit\nnumber {number}\n\nBody.\n", ident))
    with ObjectReader(git.path) as reader:
        for base in commits:
            assert reader.first_parent_log(base) == git.first_parent_log(base)


def test_names_of_refs_are_resolved_and_nonsense_is_not(git: Git) -> None:
    commit = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)
    git.update_ref("refs/heads/main", commit, None)
    with ObjectReader(git.path) as reader:
        assert reader.rev("main") == reader.rev(commit) == commit
        assert reader.tree("main") == reader.tree(commit) == git.tree(commit)
        for name in ("nowhere", "", "--all", "1" * len(commit), f"main\n{commit}", git.tree(commit)):
            assert reader.rev(str(name)) is None
        for name in ("1" * len(commit), "--all", f"main\ncontents {commit}"):
            with pytest.raises(ModelsmithError):
                reader.list_tree(name)
        assert reader.list_tree("main") == git.list_tree("main")


def overwrite(git: Git, oid: str, kind: str, data: bytes) -> None:
    """Put another object's bytes where git keeps this one, as someone with the disk can."""
    file = git.path / ".git" / "objects" / oid[:2] / oid[2:]
    file.chmod(0o644)
    file.write_bytes(zlib.compress(f"{kind} {len(data)}\0".encode() + data))


def test_an_object_overwritten_on_disk_is_found(git: Git) -> None:
    commit = git.commit_files(None, {"policy": b"strict"}, "m", AUTHOR)
    blob = git.list_tree(commit)["policy"][1]
    overwrite(git, blob, "blob", b"loosen")
    assert git.read_blob(blob) == b"loosen", "plain git believes the disk"
    with ObjectReader(git.path) as reader:
        for read_object in (reader.read_blob, reader.sha256):
            with pytest.raises(IntegrityFailure) as refused:
                read_object(blob)
            assert (refused.value.code, refused.value.details["object"]) == ("damaged-object", blob)
        assert reader.list_tree(commit)["policy"][1] == blob, "the process still answers"


def test_an_object_of_another_kind_than_its_place_says_is_refused(git: Git) -> None:
    commit = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)
    with ObjectReader(git.path) as reader, pytest.raises(IntegrityFailure):
        reader.read_blob(commit)


@pytest.mark.parametrize(
    "names", [["b", "a"], ["a", "a"], [".git"], [".GIT"], [".."], ["a/b"], [""]], ids=lambda names: "+".join(names)
)
def test_a_tree_that_two_programs_could_read_differently_is_refused(git: Git, names: list[str]) -> None:
    blob = git.text("hash-object", "-w", "--stdin", input=b"content")
    raw = b"".join(b"100644 %s\0" % name.encode() + bytes.fromhex(blob) for name in names)
    tree = git.text("hash-object", "-t", "tree", "--literally", "-w", "--stdin", input=raw)
    with ObjectReader(git.path) as reader, pytest.raises(IntegrityFailure) as refused:
        reader.list_tree(tree)
    assert refused.value.code == "damaged-object"


def test_a_file_and_a_folder_of_one_name_are_refused(git: Git) -> None:
    blob = git.text("hash-object", "-w", "--stdin", input=b"content")
    inner = git.text("mktree", input=f"100644 blob {blob}\tx\n".encode())
    raw = b"100644 a\0" + bytes.fromhex(blob) + b"40000 a\0" + bytes.fromhex(inner)
    tree = git.text("hash-object", "-t", "tree", "--literally", "-w", "--stdin", input=raw)
    with ObjectReader(git.path) as reader, pytest.raises(IntegrityFailure):
        reader.list_tree(tree)


def test_a_parent_named_where_git_does_not_look_is_no_parent(git: Git) -> None:
    first = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)
    raw = git.run("cat-file", "commit", first).replace(b"\n\nm", b"\nparent %s\n\nm" % first.encode())
    odd = git.text("hash-object", "-t", "commit", "--literally", "-w", "--stdin", input=raw)
    with ObjectReader(git.path) as reader:
        assert reader.first_parent_log(odd) == git.first_parent_log(odd)
        assert len(reader.first_parent_log(odd)) == 1


def test_a_history_that_is_cut_short_is_an_error_not_a_beginning(git: Git, tmp_path: Path) -> None:
    commit = git.commit_files(None, {"x": b"1"}, "one", AUTHOR)
    two = git.commit_files(commit, {"x": b"2"}, "two", AUTHOR)
    git.update_ref("refs/heads/main", two, None)
    shallow = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "--quiet", "--depth=1", "--branch=main", f"file://{git.path}", str(shallow)], check=True
    )
    assert len(Git(shallow).first_parent_log(two)) == 1
    with ObjectReader(shallow) as reader, pytest.raises(InfrastructureFailure) as missing:
        reader.first_parent_log(two)
    assert "--unshallow" in missing.value.mend


def test_an_object_too_large_to_hold_is_refused_or_hashed_not_kept(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = b"x" * 5000, b"y"
    listing = git.list_tree(git.commit_files(None, {"large": large, "small": small}, "m", AUTHOR))
    monkeypatch.setattr(objects, "LARGEST_BYTES", 4999)
    monkeypatch.setattr(objects, "_BLOCK", 512)
    with ObjectReader(git.path) as reader:
        with pytest.raises(IntegrityFailure, match="5000 bytes"):
            reader.read_blob(listing["large"][1])
        assert reader.read_blob(listing["small"][1]) == small
        assert reader.sha256(listing["large"][1]) == f"sha256:{hashlib.sha256(large).hexdigest()}"


def test_a_reader_that_was_left_reads_nothing(git: Git) -> None:
    commit = git.commit_files(None, {"x": b"1"}, "m", AUTHOR)
    with ObjectReader(git.path) as reader:
        reader.list_tree(commit)
    with pytest.raises(InfrastructureFailure):
        reader.read_blob(git.list_tree(commit)["x"][1])


def test_a_folder_that_is_no_repository_is_an_infrastructure_failure(tmp_path: Path) -> None:
    with ObjectReader(tmp_path) as reader, pytest.raises(InfrastructureFailure):
        reader.first_parent_log("1" * 40)


def test_names_that_are_not_utf8_are_refused_as_elsewhere(git: Git) -> None:
    blob = git.text("hash-object", "-w", "--stdin", input=b"content")
    tree = git.text("mktree", input=b"100644 blob %s\t\xff\n" % blob.encode())
    with pytest.raises(InvalidInput):
        git.list_tree(tree)
    with ObjectReader(git.path) as reader, pytest.raises(InvalidInput):
        reader.list_tree(tree)


def test_files_asked_for_together_are_each_checked_and_one_fails_alone(git: Git) -> None:
    contents = [b"%d" % number * number for number in range(300)]
    commit = git.commit_files(None, {f"f{n}": content for n, content in enumerate(contents)}, "m", AUTHOR)
    absent = "1" * len(commit)
    with ObjectReader(git.path) as reader:
        tree = Revision(reader, commit)
        oids = [entry[1] for _, entry in tree.entries()]
        for bad, failure in ((absent, InfrastructureFailure), (commit, IntegrityFailure), ("x", InfrastructureFailure)):
            with pytest.raises(failure):
                reader.read_blobs([*oids[:5], bad, *oids[5:]])
        assert reader.read_blobs([*oids, oids[0]]) == git.read_blobs(oids)
        assert [tree.read(f"f{n}") for n in range(300)] == contents


_NAMES = st.sampled_from(
    [b"a", b"b", b"ab", b"a.b", b"A", b".git", b"..", b"x/y", b"\xff", b"\xc3\xa9", b"z" * 300, b""]
)
_MODES = st.sampled_from([b"100644", b"40000", b"100755", b"120000", b"160000", b"040000", b"7", b""])
_ENTRIES = st.lists(st.tuples(_MODES, _NAMES, st.binary(min_size=20, max_size=20)), max_size=5)


@given(entries=_ENTRIES, in_order=st.booleans(), cut=st.integers(0, 30))
def test_a_folder_read_at_once_is_what_it_is_name_by_name(entries, in_order, cut):
    if in_order:
        entries = sorted(entries, key=lambda entry: entry[1] + b"/" * (entry[0] == b"40000"))
    data = b"".join(mode + b" " + name + b"\0" + oid for mode, name, oid in entries)
    data = data[: len(data) - cut] if cut > 25 else data

    def read_tree(quickly):
        reader = ObjectReader(Path())
        with patch.object(tree_objects, "_QUICKLY", quickly), patch.object(reader, "_read", lambda oid, kind: data):
            try:
                return reader._read_tree("0" * 40)
            except ModelsmithError as error:
                return error.code, error.message

    assert read_tree(1 << 20) == read_tree(0)


def test_looking_ahead_changes_no_answer(git: Git) -> None:
    first = git.commit_files(None, {"a/b/c": b"1", "a/d": b"2", "e": b"x" * (1 << 20)}, "one", AUTHOR)
    second = git.commit_files(first, {"a/b/c": b"3", "f": b"x" * (1 << 20), "e": None}, "two", AUTHOR)
    third = git.commit_files(second, {"a/b/c": None, "a/d": None, "a": b"now a file"}, "three", AUTHOR)
    with ObjectReader(git.path) as reader:
        look_ahead(reader, [(first, second), (second, third), (third, "0" * len(third))])
        for old, new in ((first, second), (second, third), (first, third)):
            assert reader.change(old, new) == reader.change(old, new) == git.change(old, new)
        for commit in (first, second, third):
            tree, anew = Revision(reader, commit), Revision(git, commit)
            assert {path: tree.read(path) for path in tree.paths()} == {path: anew.read(path) for path in anew.paths()}


@SLOW
@given(first=FILES, second=FILES)
def test_paths_that_differ_are_those_of_git_diff_tree(
    git: Git, first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    ours, two = (git.commit_files(None, without_overlaps(files), "m", AUTHOR) for files in (first, second))
    with ObjectReader(git.path) as reader:
        look_ahead(reader, [(ours, two)])
        for old, new in ((ours, two), (two, ours), (ours, two)):
            text = git.run("diff-tree", "-r", "-z", "--no-renames", "--name-only", old, new).decode().split("\0")
            assert [path.path for path in reader.change(old, new).paths] == sorted(filter(None, text))
