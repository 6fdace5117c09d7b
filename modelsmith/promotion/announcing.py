"""How a pull request stands, told to its readers at the forge: the same decision, in a few sentences."""

from __future__ import annotations

from datetime import UTC, datetime

from modelsmith.forges.port import Forge, Standing
from modelsmith.governance.names import holders
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.governance import People
from modelsmith.schema.pull import PullRequest


def announce(forge: Forge, main: GovernedState, pull: PullRequest) -> None:
    """Tell the forge's readers how an open pull request stands against this main."""
    if pull.status == "open":
        forge.announce(pull.number, lambda: standing(main, pull))


def standing(main: GovernedState, pull: PullRequest) -> Standing:
    """What `modelsmith pr show` says of the gate, in short."""
    try:
        return _standing(decide_merge(main, pull, datetime.now(UTC)), main.people)
    except ModelsmithError as error:
        return Standing("closed", error.message, (), ())


def _standing(decided: MergeDecision, people: People) -> Standing:
    decision = decided.decision
    if decision.open:
        return Standing("open", "Every check passes and every approval is given.", decision.notes, ())
    if decision.refusals:
        refusals = tuple(refusal.sentence for refusal in decision.refusals)
        return Standing("closed", refusals[0], (*refusals[1:], *decision.notes), ())
    missing = {actor for need in decision.needs if need.satisfied_by is None for actor in need.eligible}
    asked = tuple(holder.logins for holder in holders(people) if holder.id in missing)
    return Standing("waiting", f"It waits for {decision.decides}.", decision.notes, asked)
