"""``modelsmith upstream status``: how far this repository and the toolkit's own are apart."""

from __future__ import annotations

from modelsmith.governance.staying import is_teams
from modelsmith.operations.contract import Request, Result
from modelsmith.repository.upstream import fetch_upstream, last_pulled, local_main
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.steps import Step, step


class UpstreamStatusRequest(Request):
    """Fetches the remote `upstream` and says what changed there since it was last pulled, and what differs here.

    A team's own paths (evals, clusters, promotions, governance) are counted by themselves: they are never merged.
    """


class UpstreamStatusResult(Result):
    """Changes that a pull would bring, and what a contribution could hold."""

    upstream: str
    """Commit of upstream's main."""
    last_pulled: str
    """The latest commit of upstream whose changes main holds."""
    commits: int
    """Commits there since."""
    incoming: tuple[str, ...]
    """Paths of the toolkit that changed there since."""
    left: int
    """Changed paths there that are a team's own here, and stay as they are."""
    ours: tuple[str, ...]
    """Paths of the toolkit that are otherwise here than in the commit that was pulled last."""
    next: Step | None


def run(workspace: Workspace, request: UpstreamStatusRequest) -> UpstreamStatusResult:
    """Look; nothing but the fetched commits is written."""
    git, tip = workspace.git, fetch_upstream(workspace)
    main = local_main(git)
    base = last_pulled(git, main, tip)
    changed = [path.path for path in git.change(base, tip).paths]
    own_paths = [path.path for path in git.change(base, main).paths]
    incoming = tuple(path for path in changed if not is_teams(path))
    return UpstreamStatusResult(
        upstream=tip,
        last_pulled=base,
        commits=int(git.text("rev-list", "--count", f"{base}..{tip}")),
        incoming=incoming,
        left=len(changed) - len(incoming),
        ours=tuple(path for path in own_paths if not is_teams(path)),
        next=step("upstream pull", {}) if incoming else None,
    )
