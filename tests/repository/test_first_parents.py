"""What main has been, as the gate asks for it: near its tip mostly, and never a commit of a merged branch."""

from pathlib import Path

import pytest

from modelsmith.repository import first_parents
from modelsmith.repository.first_parents import FirstParents
from modelsmith.repository.git import Git

from .conftest import AUTHOR


@pytest.fixture
def git(repo: Path) -> Git:
    return Git(repo)


@pytest.fixture
def main(git: Git) -> list[str]:
    """Twenty commits, oldest first; each but the first merges a branch of one commit."""
    line = [git.commit_files(None, {"x": b"0"}, "Start\n", AUTHOR)]
    for number in range(1, 20):
        branch = git.commit_files(line[-1], {"x": b"%d" % number}, "Branch\n", AUTHOR)
        tree = git.tree(branch)
        assert tree
        line.append(git.commit_tree(tree, [line[-1], branch], "Merge\n", AUTHOR))
    return line


def test_main_s_line_is_read_no_further_than_somebody_asks(
    git: Git, main: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    class Counting(Git):
        def first_parents(self, tip: str, most: int | None = None) -> dict[str, tuple[str, ...]]:
            commits = super().first_parents(tip, most)
            counts.append(len(commits))
            return commits

    monkeypatch.setattr(first_parents, "_FIRST_BLOCK", 4)
    monkeypatch.setattr(first_parents, "_MORE", 2)
    line = FirstParents(Counting(Path(git.path)), main[-1])
    assert main[-1] in line
    assert main[-4] in line
    assert counts == [4]
    assert main[-5] in line
    assert counts == [4, 8]
    assert "0" * 40 not in line
    assert main[0] in line
    assert counts == [4, 8, 8]


@pytest.mark.parametrize("block", [1, 3, 20, 256])
def test_main_s_line_holds_first_parents_and_nothing_else(
    git: Git, main: list[str], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_parents, "_FIRST_BLOCK", block)
    everything = git.text("rev-list", main[-1]).split()
    line = FirstParents(git, main[-1])
    assert [commit for commit in everything if commit in line] == main[::-1]
    assert line == set(main) == set(git.first_parents(main[-1]))
    assert FirstParents(git, main[7]) == set(main[:8])
