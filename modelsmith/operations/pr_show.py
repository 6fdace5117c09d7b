"""``modelsmith pr show``: what a reviewer with ten minutes needs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.loop.taught import held_out_since, taught
from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.operations.proposal_view import ProposalView, proposal_view
from modelsmith.operations.pull_view import PullView, view
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import ModelsmithError


class PrShowRequest(Request):
    """Shows the gate's checks, whose approval is missing, who wrote what, each changed path, and what is asked.

    That is the review packet of a promotion, and the diff of any other change. What people wrote stands behind bars;
    so does a packet that is not exactly what the toolkit renders from evidence and records.
    """

    number: PullNumber
    diff: Annotated[bool, Field(description="Of a promotion too, the lines that change.")] = False


class ReviewView(Frozen):
    """One verdict that someone gave."""

    actor: str
    verdict: str
    at: str
    current: bool
    """Whether it speaks of the change as it is now."""
    reason: str


class PrShowResult(Result):
    """The pull request, its reviews, and what it changes."""

    pull: PullView
    reviews: tuple[ReviewView, ...]
    body: str
    """The opener's description: their words, which nothing was held against."""
    taught: tuple[str, ...]
    """What is known of trainings on scenarios that the change holds out: in sentences, from rows that lie here."""
    proposal: ProposalView | None
    """None when it cannot be read."""
    unreadable: str
    """Why the proposal cannot be read; empty when it can."""


def run(workspace: Workspace, request: PrShowRequest) -> PrShowResult:
    """Read it from the forge; nothing is changed."""
    forge = open_forge(workspace)
    main = read_governed_state(workspace.git, forge.fetch_into(workspace.git))
    pull = forge.get(request.number)
    pull_view = view(main, pull)
    proposal, unreadable = None, ""
    try:
        proposal = proposal_view(main, pull, request.diff)
    except ModelsmithError as error:
        unreadable = error.message
    reviews = tuple(
        ReviewView(
            actor=review.actor,
            verdict=review.verdict,
            at=review.at.isoformat(),
            current=pull_view.change in (None, review.change),
            reason=review.reason,
        )
        for review in pull.reviews
    )
    return PrShowResult(
        pull=pull_view,
        reviews=reviews,
        body=pull.body,
        taught=_taught(workspace, main, proposal) if proposal and pull.status == "open" else (),
        proposal=proposal,
        unreadable=unreadable,
    )


def _taught(workspace: Workspace, main: GovernedState, proposal: ProposalView) -> tuple[str, ...]:
    """Specialists that were trained on what the change holds out, and those for which nobody here can tell.

    The gate cannot see it, since rows stay where they were trained on.
    """
    sentences: list[str] = []
    unknown: tuple[str, ...] = ()
    for name, governed, scenario in held_out_since(main, Revision(main.tree.git, proposal.new)):
        limit = float(governed.evalset.separation.training_to_scored)
        neighbours = taught(workspace, main, name, scenario.user_texts(), limit)
        unknown = tuple(dict.fromkeys((*unknown, *neighbours.unknown)))
        sentences += [
            f"{specialist} was trained on a row that is {alike:.2f} like {scenario.id}, which this change holds out"
            for specialist, alike in neighbours.near.items()
        ]
    if unknown:
        sentences.append(f"whether {len(unknown)} others were trained on what this change holds out is not known here")
    return tuple(sentences)
