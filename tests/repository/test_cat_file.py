"""A process of git is kept for the next question, and nobody can tell it from a new one."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from modelsmith.repository.git import Git
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.errors import InfrastructureFailure

from .conftest import AUTHOR

MAIN = "refs/heads/main"


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return repository(tmp_path / "g")


def repository(folder: Path) -> Git:
    folder.mkdir()
    git = Git(folder)
    git.init("--bare")
    git.update_ref(MAIN, git.commit_files(None, {"x": folder.name.encode()}, "m", AUTHOR), None)
    return git


def waiting_processes() -> set[int]:
    """Processes of git that wait for this one's questions."""
    children = psutil.Process().children()
    return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE and "cat-file" in child.cmdline()}


def content(git: Git) -> bytes:
    main = git.rev(MAIN)
    assert main
    return git.read_blob(git.list_tree(main)["x"][1])


def test_the_next_reader_asks_the_same_process(git: Git) -> None:
    content(git)
    before = waiting_processes()
    content(git)
    with ObjectReader(git.path) as reader:
        content(reader)
    assert waiting_processes() == before


def test_a_few_are_kept_and_none_that_failed_its_reader(tmp_path: Path) -> None:
    for number in range(8):
        git = repository(tmp_path / str(number))
        assert content(git) == str(number).encode()
    assert len(waiting_processes()) == 4
    with suppress(KeyboardInterrupt), ObjectReader(git.path) as reader:
        content(reader)
        raise KeyboardInterrupt
    assert len(waiting_processes()) == 3


def moved(git: Git) -> bytes:
    main = git.rev(MAIN)
    git.update_ref(MAIN, git.commit_files(None, {"x": b"moved"}, "m", AUTHOR), main)
    return b"moved"


def packed(git: Git) -> bytes:
    words = moved(git)
    git.run("pack-refs", "--all")
    git.run("repack", "-a", "-d", "--quiet")
    return words


def put_in_its_place(git: Git) -> bytes:
    other = repository(git.path.with_name("other"))
    git.path.rename(git.path.with_name("away"))
    other.path.rename(git.path)
    return b"other"


def made_anew(git: Git) -> bytes:
    shutil.rmtree(git.path)
    return packed(repository(git.path))


def lent_by_another(git: Git) -> bytes:
    other = repository(git.path.with_name("other"))
    (git.path / "objects" / "info" / "alternates").write_text(f"{other.path}/objects\n")
    git.update_ref(MAIN, str(other.rev(MAIN)), git.rev(MAIN))
    return b"other"


@pytest.mark.parametrize("change", [moved, packed, put_in_its_place, made_anew, lent_by_another])
def test_what_has_changed_meanwhile_is_seen(git: Git, change: Callable[[Git], bytes]) -> None:
    content(git)
    with ObjectReader(git.path) as reader:
        content(reader)
    expected = change(Git(git.path))
    assert content(git) == expected
    with ObjectReader(git.path) as reader:
        assert content(reader) == expected


def test_what_is_gone_is_missing(git: Git) -> None:
    blob = git.list_tree(MAIN)["x"][1]
    assert git.read_blob(blob) == b"g"
    shutil.rmtree(git.path / "objects")
    (git.path / "objects").mkdir()
    with pytest.raises(InfrastructureFailure):
        git.read_blob(blob)
    assert git.rev(MAIN) is None


def test_a_process_that_was_killed_is_replaced(git: Git) -> None:
    content(git)
    for pid in waiting_processes():
        psutil.Process(pid).kill()
    assert content(git) == b"g"
    for pid in waiting_processes():
        psutil.Process(pid).kill()
    with ObjectReader(git.path) as reader:
        assert content(reader) == b"g"


def test_a_fork_asks_a_process_of_its_own(git: Git) -> None:
    content(git)
    before = waiting_processes()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(content, (git,)) == b"g"
    assert content(git) == b"g"
    assert waiting_processes() == before
