"""What a pull request would change, as its reviewer sees it: paths, lines, commits, and the packet of a promotion."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from modelsmith.governance.shape import concern, promotion_folder
from modelsmith.promotion.authors import authored_commits
from modelsmith.promotion.checks import PACKET_CHECK, promotion_checks
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.packets import PACKET_FILE
from modelsmith.repository.budgets import require_within
from modelsmith.repository.differences import changed_files, difference
from modelsmith.repository.git import Git
from modelsmith.repository.tree import Revision
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, ModelsmithError
from modelsmith.schema.promotion import RECORD_FILE
from modelsmith.schema.pull import Change, ChangedPath, PullRequest

COMMITS = 100
"""Commits that are listed, newest first."""
_RANKS = ("governance", "governed", "toolkit", "other")


class FileView(Frozen):
    """One path of the change."""

    path: str
    kind: Literal["added", "changed", "removed"]
    old: str
    """``file``, ``executable``, ``link`` or ``submodule``; empty when nothing stood there."""
    new: str
    old_bytes: int | None
    new_bytes: int | None


class CommitView(Frozen):
    """One commit of the proposal."""

    id: str
    signer: str | None
    """Whose listed key signed it; none when it proves nothing about who wrote it."""
    author: str
    """Whom it names; anybody can write that."""
    subject: str


class DiffView(Frozen):
    """The change as text."""

    lines: tuple[str, ...]
    left_out: tuple[str, ...]
    """Files that are not shown, each with its reason."""


class PacketView(Frozen):
    """The packet of a proposal, as its reviewers see it."""

    path: str
    text: str
    rendering: bool
    """Whether it is, byte for byte, what the toolkit renders from evidence and records; else the proposer wrote it."""


class ProposalView(Frozen):
    """Everything about the change itself."""

    old: str
    """Commit before it; with ``new``, what ``git diff`` compares."""
    new: str
    """Commit or tree after it."""
    files: tuple[FileView, ...]
    """Every path: what governs, what is governed, the toolkit, then the rest, what somebody owns first."""
    commits: tuple[CommitView, ...]
    """The newest, `COMMITS` at most."""
    commits_left_out: int
    """How many older ones the proposal has."""
    diff: DiffView | None
    """None for a promotion, unless it was asked for."""
    packet: PacketView | None
    """The packet of a promotion that brings one."""


def proposal_view(main: GovernedState, pull: PullRequest, with_diff: bool) -> ProposalView:
    """Look at the change that the pull request makes, made or would have made.

    Raises:
        ModelsmithError: it holds something that cannot be read, or is larger than main's limits allow.
    """
    git = main.tree.git
    if not pull.merge:
        require_within(git, main.tree.commit, pull.head, main.policy.limits)
    old, new = _sides(git, pull, main.tree.commit)
    governed = main if old == main.tree.commit else read_governed_state(git, old)
    change = _ordered(git.change(old, new), governed)
    folders = {folder for path in change.paths if (folder := promotion_folder(path.path))}
    commits = authored_commits(git, old, pull.head, governed.people, COMMITS)
    diff = difference(git, old, new, change) if with_diff or not folders else None
    return ProposalView(
        old=old,
        new=new,
        files=tuple(FileView(**file._asdict()) for file in changed_files(git, change)),
        commits=tuple(CommitView(id=c.id, signer=c.signer, author=c.author, subject=c.subject) for c in commits),
        commits_left_out=int(git.text("rev-list", "--count", f"{old}..{pull.head}")) - len(commits),
        diff=DiffView(lines=diff.lines, left_out=diff.left_out) if diff else None,
        packet=_packet(governed, new, change, folders.pop()) if len(folders) == 1 else None,
    )


def _ordered(change: Change, main: GovernedState) -> Change:
    """The files in the order in which people should see them: the most important first."""

    def rank(changed: ChangedPath) -> tuple[int, bool, str]:
        return _RANKS.index(concern(changed.path)), not main.codeowners.owners(changed.path), changed.path

    return Change(paths=tuple(sorted(change.paths, key=rank)))


def _sides(git: Git, pull: PullRequest, main: str) -> tuple[str, str]:
    """What to compare: main before and after the merge; where it does not merge, what the proposal was made on."""
    if pull.merge:
        return git.text("rev-parse", f"{pull.merge}^1"), pull.merge
    if pull.status == "open":
        try:
            return main, git.merge_tree(main, pull.head)
        except GateNotCleared:
            pass
    try:
        return git.text("merge-base", main, pull.head), pull.head
    except InfrastructureFailure:
        return main, pull.head


def _packet(main: GovernedState, new: str, change: Change, folder: str) -> PacketView | None:
    """The packet in the folder of the promotion's own record, and whether it is the toolkit's rendering."""
    after, path = Revision(main.tree.git, new), f"{folder}/{PACKET_FILE}"
    if not after.exists(f"{folder}/{RECORD_FILE}") or not after.exists(path):
        return None
    try:
        data = after.read(path)
        checks = promotion_checks(main, after, change, datetime.now(UTC))
        rendering = any(check.name == PACKET_CHECK and check.passed for check in checks)
    except ModelsmithError as error:
        return PacketView(path=path, text=error.message, rendering=False)
    return PacketView(path=path, text=data.decode("utf-8", "replace"), rendering=rendering)
