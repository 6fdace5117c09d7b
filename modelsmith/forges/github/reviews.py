"""What reviews in GitHub's pages still say, once what happened to the pull request is looked at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from modelsmith.forges.github.answers import EventAnswer
from modelsmith.schema.promotion import AttestedReview
from modelsmith.schema.pull import Heard

VERDICTS = {"APPROVED": "approve", "CHANGES_REQUESTED": "reject"}
DECIDES = (*VERDICTS, "DISMISSED")
_OTHER_DIFFERENCE = ("base_ref_changed", "automatic_base_change_succeeded", "head_ref_force_pushed")
"""Events after which a pull request shows another difference than before, by "Issue event types".

By bug reports of others, GitHub moves an approval on to the commit of a force push whose own patch is the same.
"""


def given_by(
    reviews: Sequence[AttestedReview], events: Sequence[EventAnswer], until: datetime | None = None
) -> list[AttestedReview]:
    """Reviews as their givers left them, for this branch and this base branch.

    An approval from before the base branch changed, or from before a force push, was of another difference, and is
    none, whatever commit GitHub names with it. A request for changes is taken back by its giver alone: dismissed by
    anybody else, or by an account that is gone, it is one still.

    ``until`` is when GitHub merged it: what somebody dismissed or asked for later takes nothing from that merge.
    """
    end = _text(until) if until else None
    moved = max(
        (event.created_at for event in events if event.event in _OTHER_DIFFERENCE and not _later(event, end)),
        default="",
    )
    effective = []
    for review in reviews:
        state = _state_of(review, events, end)
        if state == "CHANGES_REQUESTED" and end and _text(review.at) > end:
            continue
        if state != "APPROVED" or _text(review.at) > moved:
            effective.append(review.model_copy(update={"state": state}))
    return effective


def last_verdicts(reviews: Sequence[AttestedReview]) -> tuple[Heard, ...]:
    """The last verdict of each account; one that was dismissed since is none, and brings back none before it."""
    verdicts: dict[int, Heard] = {}
    for review in reviews:
        verdicts.pop(review.account, None)
        verdict = VERDICTS.get(review.state)
        if verdict:
            facts = {"login": review.login, "account": review.account, "head": review.commit, "at": review.at}
            verdicts[review.account] = Heard.model_validate(facts | {"verdict": verdict})
    return tuple(verdicts.values())


def _state_of(review: AttestedReview, events: Sequence[EventAnswer], end: str | None) -> str:
    """The state of a review; one that was dismissed keeps its own where that takes nothing from it."""
    ends = [event for event in events if event.dismissed_review and event.dismissed_review.review_id == review.review]
    if review.state != "DISMISSED" or not ends:
        return review.state
    last = ends[-1]
    assert last.dismissed_review
    before = last.dismissed_review.state.upper()
    its_giver = last.actor is not None and last.actor.id == review.account
    stands = before in VERDICTS and (_later(last, end) or (before == "CHANGES_REQUESTED" and not its_giver))
    return before if stands else review.state


def _later(event: EventAnswer, end: str | None) -> bool:
    return end is not None and event.created_at > end


def _text(moment: datetime) -> str:
    """As GitHub writes times, which then compare as texts."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
