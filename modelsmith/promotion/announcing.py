"""How a pull request stands, told to its readers at the forge: the same decision, in a few sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from modelsmith.evidence.pull_page import promotion_page
from modelsmith.forges.port import Forge, Standing
from modelsmith.governance.names import holders
from modelsmith.governance.states import parse_folder
from modelsmith.promotion.checks import PACKET_CHECK
from modelsmith.promotion.freshness import read_evidence
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import PROMOTIONS
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.promotion.packets import PACKET_FILE
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evidence import EVIDENCE_FILE
from modelsmith.schema.governance import People
from modelsmith.schema.promotion import RECORD_FILE
from modelsmith.schema.pull import PullRequest


def announce(forge: Forge, main: GovernedState, pull: PullRequest, page: Callable[[], str] = str) -> None:
    """Tell the forge's readers how an open pull request stands against this main.

    ``page`` makes what is told about a change that is not a promotion, where somebody reads it; a promotion has its
    own.
    """
    if pull.status == "open":
        forge.announce(pull.number, lambda: standing(main, pull, page))


def standing(main: GovernedState, pull: PullRequest, page: Callable[[], str] = str) -> Standing:
    """State of the gate and of the change, as `modelsmith pr show` tells it, in short."""
    try:
        decided = decide_merge(main, pull, datetime.now(UTC))
        result = _standing(decided, main.people)
        packet = _packet_page(decided, pull.number)
        labels = (f"gate {result.gate}", *_promotion_labels(decided))
        return replace(result, page=packet or page(), words="" if packet else pull.body, labels=labels)
    except ModelsmithError as error:
        return Standing("closed", error.message, (), (), labels=("gate closed",))


def _promotion_labels(decided: MergeDecision) -> Iterator[str]:
    """Of a promotion that the gate could read: the event, and the verdict of the eval that it rests on."""
    records = [path.path for path in decided.change.paths if path.path.endswith(f"/{RECORD_FILE}")]
    if len(records) != 1 or any(check.name in _READ and not check.passed for check in decided.decision.checks):
        return
    folder = parse_folder(records[0].removesuffix(f"/{RECORD_FILE}"))
    yield folder.event
    proposed = Revision(decided.main.tree.git, decided.tree)
    for path in proposed.paths(f"{PROMOTIONS}/{folder.cluster}/{folder.specialist}"):
        if path.endswith(f"-eval-accepted/{EVIDENCE_FILE}"):
            yield f"verdict {read_evidence(proposed.read(path)).candidate.headline.verdict}"


_READ = ("record", "signature", "evidence")
"""Checks without which a promotion says nothing of itself."""


def _packet_page(decided: MergeDecision, number: int) -> str:
    """The packet of a promotion, where the gate has held it against evidence and records; else nothing is shown."""
    rendered = any(check.name == PACKET_CHECK and check.passed for check in decided.decision.checks)
    paths = [path.path for path in decided.change.paths if path.path.endswith(f"/{PACKET_FILE}")]
    if not rendered or len(paths) != 1:
        return ""
    text = Revision(decided.main.tree.git, decided.tree).read(paths[0]).decode("utf-8", "replace")
    return promotion_page(text, paths[0].removesuffix(f"/{PACKET_FILE}"), number)


def _standing(decided: MergeDecision, people: People) -> Standing:
    decision = decided.decision
    if decision.open:
        return Standing("open", "Every check passes and every approval is given.", decision.notes, ())
    if decision.refusals:
        refusals = tuple(refusal.sentence for refusal in decision.refusals)
        return Standing("closed", refusals[0], (*refusals[1:], *decision.notes), ())
    missing = {actor for need in decision.needs if need.satisfied_by is None for actor in need.eligible}
    logins = tuple(holder.logins for holder in holders(people) if holder.id in missing)
    return Standing("waiting", f"It waits for {decision.decides}.", decision.notes, logins)
