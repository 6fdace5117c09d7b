"""What a proposal's earlier commits bring and its last does not hold: on main for good, and in nobody's diff."""

from __future__ import annotations

from collections.abc import Sequence

from modelsmith.governance.gate import CheckResult
from modelsmith.governance.shape import passing_problem
from modelsmith.repository.commits import AddedFile
from modelsmith.repository.git import Git
from modelsmith.repository.listing import EXECUTABLE, REGULAR, SUBMODULE
from modelsmith.repository.secrets import find_secrets, name_problems
from modelsmith.schema.errors import GateNotCleared
from modelsmith.schema.governance import Limits
from modelsmith.schema.pull import Change

_MEND = "propose the same change in one commit (git rebase, or git merge --squash)"


def check_earlier_commits(
    git: Git, main: str, commits: Sequence[str], change: Change, limits: Limits, merging: bool
) -> CheckResult:
    """Ask of what only earlier commits hold what is asked of the change: names, kinds, sizes, secrets.

    Args:
        git: Where they are.
        main: What the change is merged into.
        commits: All commits of the proposal, in any order: the answer is the same.
        change: What the merge changes; what it shows is asked elsewhere.
        limits: Main's.
        merging: Whether secrets are looked for: at the merge only, as in the change itself. A later toolkit may know
            more of them by their form, and history stays as it was judged.
    """
    try:
        entries = _passing(git, main, commits, change)
    except GateNotCleared as error:
        return CheckResult("earlier-commits", False, f"{error.message}; {_MEND}")
    problem = _problem(git, entries, limits) or (_secret(git, entries) if merging else "")
    if problem:
        return CheckResult("earlier-commits", False, f"{problem}; {_MEND}")
    return CheckResult("earlier-commits", True, "no earlier commit of the proposal brings what its last does not show")


def _passing(git: Git, main: str, commits: Sequence[str], change: Change) -> list[AddedFile]:
    """What some commit of the proposal brings, and neither the change shows nor main holds in that place."""
    in_change = {(path.path, path.new_mode, path.new_blob) for path in change.paths}
    entries = [
        entry for entry in git.added_files(sorted(commits)) if (entry.path, entry.mode, entry.blob) not in in_change
    ]
    listing = git.listing(main) if entries else None
    return [entry for entry in entries if listing is None or listing.entry(entry.path) != (entry.mode, entry.blob)]


def _problem(git: Git, entries: Sequence[AddedFile], limits: Limits) -> str:
    """The first thing that is wrong, by names and sizes alone; empty when nothing is."""
    for entry in entries:
        if problem := passing_problem(entry.path, entry.mode, limits):
            return f"commit {entry.commit[:12]}: {problem}"
    sizes = git.sizes([entry.blob for entry in entries if entry.mode != SUBMODULE])
    for entry in entries:
        if sizes[entry.blob] > limits.file_bytes:
            size = f"{sizes[entry.blob]} bytes, above {limits.file_bytes}"
            return f"commit {entry.commit[:12]} holds {entry.path!a} with {size}"
    total = sum(sizes[entry.blob] for entry in entries)
    return (
        f"earlier commits hold files of {total} bytes, above {limits.change_bytes}"
        if total > limits.change_bytes
        else ""
    )


def _secret(git: Git, entries: Sequence[AddedFile]) -> str:
    """The first secret, by the rules that the change is asked by; what is too large was refused before."""
    if names := name_problems(entry.path for entry in entries):
        return f"an earlier commit holds {names[0].file!a}, and {names[0].message}"
    files = [entry for entry in entries if entry.mode in (REGULAR, EXECUTABLE)]
    contents = git.read_blobs([file.blob for file in files])
    for file in files:
        text = contents[file.blob].decode("utf-8", "replace")
        secret = next(find_secrets(text, file.path, guess=False, marked=True), None)
        if secret:
            return f"commit {file.commit[:12]} holds what looks like a secret in {file.path!a} (rule {secret.rule})"
    return ""
