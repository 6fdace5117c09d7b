"""The seven named checks of a pull request, or of the commits that a merge queue made of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal, NamedTuple

from modelsmith.governance.named_checks import NamedCheck, named_checks, unjudged
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError
from modelsmith.schema.pull import PullRequest


class Checked(NamedTuple):
    """The gate's decision about a pull request, as named checks."""

    decided: MergeDecision | None
    """None when the gate could not look at it."""
    checks: tuple[NamedCheck, ...]

    @property
    def gate(self) -> Literal["open", "waiting", "closed"]:
        """``closed`` when no approval opens it."""
        if all(check.passes for check in self.checks):
            return "open"
        refused = self.decided is not None and self.decided.decision.refusals
        return "closed" if refused or any(check.state == "failure" for check in self.checks) else "waiting"


def check_pull(main: GovernedState, pull: PullRequest, now: datetime) -> Checked:
    """Decide about an open pull request as `merge_pull` would, now.

    Raises:
        InfrastructureFailure: git cannot work here.
    """
    try:
        decided = decide_merge(main, pull, now)
    except InfrastructureFailure:
        raise
    except ModelsmithError as error:
        return Checked(None, unjudged(error.message))
    return Checked(decided, named_checks(decided.decision))


def check_made(main: GovernedState, pull: PullRequest, base: str, merge: str, now: datetime) -> Checked:
    """Checks of commits that a merge queue made of a pull request: they must be its merge into this very main.

    Args:
        main: What governs.
        pull: The pull request whose head they contain.
        base: Commit that they were made on.
        merge: Commit that main would be moved to.
        now: The present.
    """
    checked = check_pull(main, pull, now)
    if checked.decided is None:
        return checked
    git = main.tree.git
    if base != main.tree.commit:
        doubt = (
            f"it was made on {base[:12]}, and main is at {main.tree.commit[:12]}; the queue must merge one at a time"
        )
    elif git.tree(merge) != checked.decided.tree:
        doubt = f"{merge[:12]} holds something else than the merge of pull request {pull.number} into main"
    else:
        return checked
    return checked._replace(checks=tuple(_doubted(check, doubt) for check in checked.checks))


def _doubted(check: NamedCheck, doubt: str) -> NamedCheck:
    if check.name != "subject":
        return check
    return replace(check, state="failure", title=doubt, lines=(check.title, *check.lines))
