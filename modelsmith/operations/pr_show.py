"""``modelsmith pr show``: what a reviewer with ten minutes needs."""

from __future__ import annotations

from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.operations.pull_view import PullView, view
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen


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
    """Markdown."""


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
    return PrShowResult(pull=shown, reviews=reviews, body=pull.body)
