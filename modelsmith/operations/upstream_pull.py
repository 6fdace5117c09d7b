"""``modelsmith upstream pull``: the toolkit's changes as one commit on a branch, a team's own files untouched."""

from __future__ import annotations

from datetime import UTC, datetime

from modelsmith.governance.staying import is_teams
from modelsmith.operations.contract import Request, Result
from modelsmith.repository.git import Ident
from modelsmith.repository.upstream import (
    TRAILER,
    fetch_upstream,
    last_pulled,
    local_main,
    pulled_tree,
)
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.steps import Step, step


class UpstreamPullRequest(Request):
    """Fetches the remote `upstream` and merges what changed there into one commit on a new branch, based on main.

    A team's own paths are left as they are. Neither the work tree nor main is touched: the branch is proposed like any
    other change, and the owners of the toolkit's files decide.
    """


class UpstreamPullResult(Result):
    """The toolkit's changes as a branch to propose, and what was left out."""

    branch: str | None
    """Null when there is nothing to bring in."""
    commit: str | None
    upstream: str
    """Commit of upstream that it holds."""
    paths: tuple[str, ...]
    """Paths that it changes."""
    left: tuple[str, ...]
    """A team's own paths that changed there, and are as they were here."""
    next: Step | None


def run(workspace: Workspace, request: UpstreamPullRequest) -> UpstreamPullResult:
    """Merge in the object database.

    Raises:
        GateNotCleared: ``conflict``, with the toolkit's paths that both sides changed.
        InvalidInput: ``branch-exists``.
    """
    git, tip = workspace.git, fetch_upstream(workspace)
    main = local_main(git)
    base = last_pulled(git, main, tip)
    team_paths = tuple(path.path for path in git.change(base, tip).paths if is_teams(path.path))
    tree = pulled_tree(git, main, base, tip)
    paths = tuple(path.path for path in git.change(main, tree).paths)
    if not paths:
        return UpstreamPullResult(branch=None, commit=None, upstream=tip, paths=(), left=team_paths, next=None)
    branch = f"upstream-{tip[:12]}"
    ref, existing = f"refs/heads/{branch}", git.rev(f"refs/heads/{branch}")
    if existing:
        if git.text("rev-parse", f"{existing}^{{tree}}", f"{existing}^1").split() != [tree, main]:
            raise InvalidInput(
                "branch-exists", f"There is a branch {branch} with something else",
                f"Remove it: git branch -D {branch}", branch=branch,
            )  # fmt: skip
        commit = existing
    else:
        author = Ident("upstream", "upstream@modelsmith.invalid", datetime.now(UTC))
        message = f"Toolkit of upstream at {tip[:12]}\n\n{TRAILER}{tip}\n"
        commit = git.commit_tree(tree, [main], message, author)
        git.update_ref(ref, commit, None)
    propose = step("pr open", {"branch": branch}, title=f"Toolkit of upstream at {tip[:12]}", key="KEY")
    return UpstreamPullResult(branch=branch, commit=commit, upstream=tip, paths=paths, left=team_paths, next=propose)
