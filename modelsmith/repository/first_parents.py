"""What main has been: commits along first parents, read no further back than somebody asks for."""

from __future__ import annotations

from collections.abc import Iterator, Set

from typing_extensions import override

from modelsmith.repository.git import Git

_FIRST_BLOCK, _MORE = 256, 8
"""Commits that are read at first, and how many times as many the next time."""


class FirstParents(Set[str]):
    """Ids of a commit and of its first parents, down to the first. What is asked about is mostly near the tip.

    Concurrency: one thread at a time. Each reading is a git process.

    Raises:
        InfrastructureFailure: ``git-failed`` where somebody asks and git cannot say.
    """

    def __init__(self, git: Git, tip: str) -> None:
        self._git = git
        self._further: str | None = tip
        self._read: set[str] = set()
        self._block = _FIRST_BLOCK

    @override
    def __contains__(self, commit: object) -> bool:
        while self._further and commit not in self._read:
            self._read_on()
        return commit in self._read

    @override
    def __iter__(self) -> Iterator[str]:
        while self._further:
            self._read_on()
        return iter(self._read)

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _read_on(self) -> None:
        assert self._further
        parents_by_commit = self._git.first_parents(self._further, self._block)
        self._read |= parents_by_commit.keys()
        parents = parents_by_commit[next(reversed(parents_by_commit))]
        self._further = parents[0] if parents else None
        self._block *= _MORE
