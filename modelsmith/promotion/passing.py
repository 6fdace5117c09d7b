"""What a proposal's earlier commits bring and its last does not hold: on main for good, and in nobody's diff."""

from __future__ import annotations

from typing import NamedTuple

from modelsmith.governance.gate import CheckResult
from modelsmith.governance.reserved import why_reserved
from modelsmith.repository.git import Git
from modelsmith.repository.secrets import find_secrets
from modelsmith.schema.governance import Limits
from modelsmith.schema.pull import Change

MOST_OBJECTS = 20_000
"""Files and folders of all versions that a proposal may bring beside those of its last commit."""
_MEND = "propose the same change in one commit (git rebase, or git merge --squash)"


class _Passing(NamedTuple):
    """A file that some commit of the proposal brings, and the change itself does not."""

    blob: str
    path: str


def check_earlier_commits(git: Git, main: str, head: str, change: Change, limits: Limits) -> CheckResult:
    """Ask of what only earlier commits hold what is asked of the change: names, sizes, secrets.

    Only at the merge: it is about what comes onto main, and history stays as it was judged.
    """
    found = _passing(git, main, head, change)
    said = "the proposal brings too much that it takes away again" if found is None else _problem(git, found, limits)
    if said:
        return CheckResult("earlier-commits", False, f"{said}; {_MEND}")
    return CheckResult("earlier-commits", True, "no earlier commit of the proposal brings what its last does not show")


def _passing(git: Git, main: str, head: str, change: Change) -> list[_Passing] | None:
    """What is new in the proposal's history and not in its change; None for more than anybody looks at."""
    if git.count_commits(main, head, 2) < 2:
        return []
    shown = {path.new_blob for path in change.paths}
    listed = git.text("rev-list", "--objects", f"--max-count={MOST_OBJECTS}", f"{main}..{head}").splitlines()
    if len(listed) > MOST_OBJECTS:
        return None
    named = (line.partition(" ") for line in listed)
    return [_Passing(oid, path) for oid, _, path in named if path and oid not in shown]


def _problem(git: Git, found: list[_Passing], limits: Limits) -> str:
    """The first thing that is wrong; empty when nothing is. Sizes come first: what is too large is not read."""
    for one in found:
        if why := why_reserved(one.path):
            return f"an earlier commit holds {one.path!a}, which may not be committed: {why}"
    sizes = git.blob_sizes([one.blob for one in found])
    blobs = [one for one in found if one.blob in sizes]
    for one in blobs:
        if sizes[one.blob] > limits.file_bytes:
            return f"an earlier commit holds {one.path!a} with {sizes[one.blob]} bytes, above {limits.file_bytes}"
    if sum(sizes.values()) > limits.change_bytes:
        return f"earlier commits hold files of {sum(sizes.values())} bytes, above {limits.change_bytes}"
    contents = git.read_blobs([one.blob for one in blobs])
    for one in blobs:
        text = contents[one.blob].decode("utf-8", "replace")
        secret = next(find_secrets(text, one.path, guess=False, marked=True), None)
        if secret:
            return f"an earlier commit holds what looks like a secret in {one.path!a} (rule {secret.rule})"
    return ""
