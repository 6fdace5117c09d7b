"""Main of the forge in this clone."""

from __future__ import annotations

from modelsmith.promotion.governed_state import GovernedState, governed_state_after, read_governed_state
from modelsmith.promotion.harness import Merger
from modelsmith.repository.eval_tree import overwritten
from modelsmith.repository.workspace import refuse_local


class MainReader:
    """Main of the forge, for one command: read once, and when it has moved, what changed since.

    Not for use by several threads at a time.
    """

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._known: GovernedState | None = None

    def read(self) -> GovernedState:
        """Main as it is at the forge now. Raises as `sync` and `read_governed_state`."""
        self._known = current_main(self._merger, self._known)
        return self._known


def current_main(merger: Merger, governed: GovernedState | None) -> GovernedState:
    """Main of the forge, from ``governed``, as it was read before: costs what changed since. Raises as `MainReader`."""
    commit = sync(merger)
    if governed is None:
        return read_governed_state(merger.workspace.git, commit)
    return governed if governed.tree.commit == commit else governed_state_after(governed, commit)


def sync(merger: Merger) -> str:
    """Bring the forge's main into this clone and return its commit.

    The work tree follows when main is checked out, nothing is staged and nothing uncommitted would be lost.

    Raises:
        IntegrityFailure: ``reserved-path`` when main holds what belongs to one machine; the work tree stays as it is.
    """
    workspace = merger.workspace
    git = workspace.git
    commit = merger.forge.fetch_into(git)
    refuse_local(git, commit)
    on_main = git.branch() == "refs/heads/main"
    local = git.rev("refs/heads/main")
    if local == commit or (local is not None and not git.is_ancestor(local, commit)):
        return commit
    if on_main:
        staged = git.text("diff-index", "--cached", "--name-only", local, "--") if local else ""
        if not staged and not overwritten(git, workspace.files, local, commit):
            git.run("merge", "--quiet", "--ff-only", commit)
    else:
        git.update_ref("refs/heads/main", commit, local)
    return commit
