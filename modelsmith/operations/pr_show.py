"""``modelsmith pr show``: what a reviewer with ten minutes needs."""

from __future__ import annotations

from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.operations.pull_view import PullView, view
from modelsmith.promotion.harness import open_forge
from modelsmith.promotion.packets import PACKET_FILE
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.pull import PullRequest


class PrShowRequest(Request):
    """Shows the review packet, the gate's checks and whose approval is missing."""

    number: PullNumber


class ReviewView(Frozen):
    """One verdict that someone gave."""

    actor: str
    verdict: str
    at: str
    current: bool
    """Whether it speaks of the change as it is now."""
    reason: str


class PrShowResult(Result):
    """The pull request, its reviews and its body."""

    pull: PullView
    reviews: tuple[ReviewView, ...]
    body: str
    """Markdown: the review packet of a promotion, else the description."""


def run(workspace: Workspace, request: PrShowRequest) -> PrShowResult:
    """Read it from the forge; nothing is changed."""
    forge = open_forge(workspace)
    main = forge.fetch_into(workspace.git)
    pull = forge.get(request.number)
    shown = view(workspace.git, pull, main)
    reviews = tuple(
        ReviewView(
            actor=review.actor,
            verdict=review.verdict,
            at=review.at.isoformat(),
            current=shown.change in (None, review.change),
            reason=review.reason,
        )
        for review in pull.reviews
    )
    return PrShowResult(pull=shown, reviews=reviews, body=_packet(workspace, pull, main) or pull.body)


def _packet(workspace: Workspace, pull: PullRequest, main: str) -> str | None:
    """The packet that the proposal brings: unlike the description, the gate holds it against the evidence."""
    git = workspace.git
    base = git.text("rev-parse", f"{pull.merge}^1") if pull.merge else git.text("merge-base", main, pull.head)
    added = [path.path for path in git.change(base, pull.head).paths if path.path.endswith(f"/{PACKET_FILE}")]
    return workspace.revision(pull.head).read(added[0]).decode() if len(added) == 1 else None
