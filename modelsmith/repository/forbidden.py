"""Paths that the gate refuses for their names alone, as `validate` says it before anybody proposes them."""

from __future__ import annotations

from collections.abc import Iterable

from modelsmith.governance.names import twins
from modelsmith.governance.reserved import why_reserved, why_unportable
from modelsmith.repository.document import Problem


def reserved(paths: Iterable[str]) -> list[Problem]:
    """Paths of a commit, or of the index, that no commit may hold."""
    return [
        Problem(path, None, "", f"no commit may hold this: {why}", f"Remove it: `git rm -r --cached {path}`.")
        for path in paths
        if (why := why_reserved(path))
    ]


def unportable(paths: Iterable[str]) -> list[Problem]:
    """Paths that not every clone can hold: some disks refuse the name, and some take two names for one."""
    names = sorted(paths)
    problems = [
        Problem(path, None, "", f"not every clone can hold this: {why}", "Rename it (`git mv`).")
        for path in names
        if not why_reserved(path) and (why := why_unportable(path))
    ]
    for first, second in twins(names):
        words = f"{first!a} stands beside it, which differs only by case or Unicode form"
        problems.append(Problem(second, None, "", words, "Rename one of them, or remove it."))
    return problems
