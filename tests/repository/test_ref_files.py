"""Refs that are read from git's files: what is read is what git says, and git is asked wherever it may know better."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.repository import ref_files, refs
from modelsmith.repository.git import Git
from modelsmith.repository.refs import local_refs

from .conftest import AUTHOR

ALL = ("refs/",)
NAMES = st.lists(st.sampled_from(["a", "b", "a.b", "7", "main"]), min_size=1, max_size=3).map("/".join)
ASKED = st.sampled_from(["refs/", "refs/heads/", "refs/heads/a/", "refs/heads/a", "refs/heads/main", "refs/none/", "x"])
STEPS = st.lists(st.one_of(NAMES.map(lambda name: ("set", name)), st.just(("pack", ""))), max_size=8)


@pytest.fixture(params=[("sha1", True), ("sha256", False)], ids=["bare", "sha256 with a work tree"])
def git(request: pytest.FixtureRequest, tmp_path: Path) -> Git:
    name, bare = request.param
    words = ["git", "init", "--quiet", f"--object-format={name}", *(["--bare"] if bare else []), str(tmp_path / "g")]
    subprocess.run(words, check=True)
    return Git(tmp_path / "g")


def place_of(git: Git) -> Path:
    place = git.plain_place()
    assert place
    return place


def commit(git: Git, text: bytes = b"one") -> str:
    return git.commit_files(None, {"a": text}, "m", AUTHOR)


def said_by_git(git: Git, *names: str) -> dict[str, str]:
    with patch.object(refs, "stored_refs", return_value=None):
        return local_refs(git, *names)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, asked=st.lists(ASKED, min_size=1, max_size=3))
def test_what_is_read_is_what_git_says(git: Git, steps: list[tuple[str, str]], asked: list[str]) -> None:
    for ref in said_by_git(git, *ALL):
        git.run("update-ref", "-d", ref)
    for number, (action, name) in enumerate(steps):
        if action == "pack":
            git.run("pack-refs", "--all")
        else:
            git.attempt(("update-ref", f"refs/heads/{name}", commit(git, b"%d" % number)))  # a folder may be in the way
    stored = ref_files.stored_refs(place_of(git), asked)
    assert stored is not None
    assert list(stored.items()) == list(said_by_git(git, *asked).items())


def test_no_git_is_started_for_plain_refs(git: Git) -> None:
    git.update_ref("refs/heads/main", commit(git), None)
    with patch.object(Git, "attempt", side_effect=AssertionError):
        assert [*local_refs(git, "refs/heads/")] == ["refs/heads/main"]
        assert local_refs(git, "refs/heads/none") == {}


def test_a_ref_that_is_just_being_written_is_what_it_was(git: Git) -> None:
    oid = commit(git)
    git.update_ref("refs/heads/main", oid, None)
    (place_of(git) / "refs" / "heads" / "main.lock").write_text("half")
    assert ref_files.stored_refs(place_of(git), ALL) == {"refs/heads/main": oid}


def another(place: Path, name: str, text: str | bytes) -> None:
    path = place / "refs" / "heads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def replaced(place: Path, make: Callable[[Path], object]) -> None:
    (place / "refs" / "heads" / "other").unlink()
    make(place / "refs" / "heads" / "other")


ODD: dict[str, Callable[[Path, str], object]] = {
    "a link to another ref": lambda place, _: another(place, "other", "ref: refs/heads/main\n"),
    "a link of the file system": lambda place, _: replaced(place, lambda path: path.symlink_to("main")),
    "a folder that is linked": lambda place, _: (place / "refs" / "linked").symlink_to("heads"),
    "a pipe": lambda place, _: replaced(place, os.mkfifo),
    "an empty file": lambda place, _: another(place, "other", ""),
    "half an id": lambda place, oid: another(place, "other", oid[:20] + "\n"),
    "an id without an end of line": lambda place, oid: another(place, "other", oid),
    "an id in capitals": lambda place, oid: another(place, "other", oid.upper() + "\n"),
    "no object": lambda place, oid: another(place, "other", "0" * len(oid) + "\n"),
    "more than an id": lambda place, oid: another(place, "other", f"{oid}\n{oid}\n"),
    "a name that git does not take": lambda place, oid: another(place, "a..b", oid + "\n"),
    "a name of other letters": lambda place, oid: another(place, "häuser", oid + "\n"),
    "a name that is not text": lambda place, oid: another(place, os.fsdecode(b"\xff"), oid + "\n"),
    "a name with a line in it": lambda place, oid: another(place, "a\nb", oid + "\n"),
    "a packed line that is none": lambda place, _: (place / "packed-refs").write_text("what\n"),
    "a packed name of other letters": lambda place, oid: (place / "packed-refs").write_text(f"{oid} refs/heads/ä\n"),
    "packed refs in a link": lambda place, _: (place / "packed-refs").symlink_to("nowhere"),
    "refs elsewhere": lambda place, _: (place / "commondir").write_text("../elsewhere\n"),
    "refs in a table": lambda place, _: (place / "reftable").mkdir(),
    "refs as the settings say": lambda place, _: (place / "config").open("a").write("[extensions]\n refStorage = x\n"),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_not_plain_is_left_to_git(git: Git, odd: str) -> None:
    """Whether git reads it, passes over it or says that it cannot."""
    oid = commit(git)
    for name in ("main", "other"):
        git.update_ref(f"refs/heads/{name}", oid, None)
    ODD[odd](place_of(git), oid)
    assert ref_files.stored_refs(place_of(git), ALL) is None


@pytest.mark.parametrize("asked", ["refs/linked/", "refs/linked/main", "refs/linked/main/"])
def test_refs_below_a_folder_that_is_linked_are_left_to_git(git: Git, asked: str) -> None:
    """It is no ref that was asked for itself, and what git finds below it is not missed."""
    git.update_ref("refs/heads/main", commit(git), None)
    (place_of(git) / "refs" / "linked").symlink_to("heads")
    assert ref_files.stored_refs(place_of(git), [asked]) is None
    assert local_refs(git, asked) == said_by_git(git, asked)


def test_a_repository_of_somebody_else_is_left_to_git(git: Git) -> None:
    git.update_ref("refs/heads/main", commit(git), None)
    with patch.object(os, "geteuid", return_value=os.geteuid() + 1):
        assert ref_files.stored_refs(place_of(git), ALL) is None


def test_where_there_is_much_to_read_git_is_asked(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        git.update_ref(f"refs/heads/{name}", commit(git), None)
    monkeypatch.setattr(ref_files, "_MOST_FILES", 2)
    assert ref_files.stored_refs(place_of(git), ALL) is None
    assert [*local_refs(git, *ALL)] == ["refs/heads/a", "refs/heads/b", "refs/heads/c"]
    git.run("pack-refs", "--all")
    assert len(ref_files.stored_refs(place_of(git), ALL) or ()) == 3
    monkeypatch.setattr(ref_files, "_MOST_PACKED", 100)
    assert ref_files.stored_refs(place_of(git), ALL) is None


@pytest.mark.parametrize(
    "odd", [b"", b"# more\n", b"\n", b"g" * 40 + b" refs/heads/c\n", b"0" * 40 + b" refs/heads/c\n"]
)
@pytest.mark.parametrize("name", [b"refs/heads/c", b"refs/heads/a.b", b"refs/heads/-c", b"refs/heads//c", b"refs/c/"])
def test_packed_refs_that_are_read_at_once_are_those_of_each_line(odd: bytes, name: bytes) -> None:
    """What one way reads, the other reads as well; where it may not, the lines are looked at one by one."""
    data = b"# pack-refs with: peeled\n" + b"1" * 40 + b" refs/heads/main\n^" + b"2" * 40 + b"\n" + odd
    data += b"3" * 40 + b" " + name + b"\n"
    for asked in (ALL, ("refs/heads/main",), ("refs/heads/",)):
        quickly = ref_files._at_once(data, asked)
        if quickly is not None:
            assert quickly == ref_files._one_by_one(data, asked)
