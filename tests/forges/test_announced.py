"""What a push to a forge on this machine is told of: the logs that it moves or takes in, and no others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from modelsmith.forges.announced import announcing_only
from modelsmith.forges.reader import MAIN, PULLS

_WHO = {f"GIT_{role}_{fact}": "m@m.invalid" for role in ("AUTHOR", "COMMITTER") for fact in ("NAME", "EMAIL")}


def git(where: Path, *args: str, **env: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(where), *args], env=os.environ | _WHO | env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip() + done.stderr


@pytest.fixture
def forge(tmp_path: Path) -> Path:
    """A forge with main and three logs, and a clone of it beside."""
    bare = tmp_path / "forge git"
    git(tmp_path, "init", "--bare", "--quiet", "--initial-branch=main", str(bare))
    commit = git(bare, "commit-tree", "-m", "begin", git(bare, "mktree"))
    for ref in (MAIN, *(f"{PULLS}{number}" for number in (1, 2, 12))):
        git(bare, "update-ref", ref, commit)
    git(tmp_path, "clone", "--quiet", str(bare), "clone")
    return bare


def push(forge: Path, ref: str, *logs: str) -> set[str]:
    """Push a new commit to a ref; what the forge announced."""
    clone = forge.parent / "clone"
    tree, above = git(clone, "mktree"), git(forge, "rev-parse", MAIN)
    commit = git(clone, "commit-tree", "-m", f"to {ref}", "-p", above, tree)
    lease = f"--force-with-lease={ref}:{above if git(forge, 'for-each-ref', ref) else ''}"
    said = git(clone, "push", announcing_only(*logs), lease, str(forge), f"{commit}:{ref}", GIT_TRACE_PACKET="1")
    assert git(forge, "rev-parse", ref) == commit
    announced = (line.partition("push< ")[2].split("\\0")[0].split(" ") for line in said.splitlines())
    return {words[1] for words in announced if len(words) == 2 and len(words[0]) == 40 and words[1].startswith("refs/")}


def test_a_push_to_main_is_told_of_main_and_the_log_it_takes_in(forge: Path) -> None:
    """And of none whose number begins with the same digits."""
    assert push(forge, MAIN, f"{PULLS}1") == {MAIN, f"{PULLS}1"}


@pytest.mark.parametrize("number", [2, 13])
def test_a_log_that_is_pushed_to_is_found_whether_it_is_new_or_not(forge: Path, number: int) -> None:
    assert push(forge, f"{PULLS}{number}", f"{PULLS}{number}") == {MAIN, f"{PULLS}{number}"} - {f"{PULLS}13"}


def test_a_push_that_others_were_faster_than_is_refused(forge: Path) -> None:
    """The lease is held against the log, which is announced."""
    log, clone = f"{PULLS}2", forge.parent / "clone"
    commit = git(clone, "commit-tree", "-m", "later", "-p", git(forge, "rev-parse", log), git(clone, "mktree"))
    lease = f"--force-with-lease={log}:{commit}"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        git(clone, "push", announcing_only(log), lease, str(forge), f"{commit}:{log}")
    assert "stale info" in refused.value.stderr
