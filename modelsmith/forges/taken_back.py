"""A main that was moved back behind what never had receipts: the one rewind that loses nothing that counted."""

from __future__ import annotations

from modelsmith.repository.git import Git

MOST_TAKEN_BACK = 1000
"""Steps that are looked at; who takes back more is told of a rewind."""
_ABSENT = "000000"
_RECEIPT = "/merge.json"


def common_step(git: Git, local: str, remote: str) -> str | None:
    """The last step of main as it was held that main as it is shown still has; None without any."""
    line = git.text("rev-list", "--first-parent", f"{remote}..{local}").split()
    if not line:
        return None
    parents = git.text("rev-list", "--parents", "-n1", line[-1]).split()[1:]
    return parents[0] if parents and git.is_ancestor(parents[0], remote) else None


def only_unreceipted(git: Git, local: str, base: str) -> bool:
    """Whether no step of main between ``base`` and ``local`` adds receipts.

    What has no receipts verifies in no clone, so taking it back is how a main is mended that was merged past its gate.
    Each step is asked, and not the trees at both ends: a later step may have removed the receipts of an earlier one.
    """
    line = git.text("rev-list", "--first-parent", f"--max-count={MOST_TAKEN_BACK + 1}", f"{base}..{local}").split()
    return len(line) <= MOST_TAKEN_BACK and not any(
        path.old_mode == _ABSENT and path.path.endswith(_RECEIPT)
        for commit in line
        for path in git.change(f"{commit}^1", commit).paths
    )
