"""What the hook asks where main is to move: the gate, and the receipts that are due."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.promotion.merges import adopt_merge
from modelsmith.promotion.receipting import refuse_unless_open
from modelsmith.promotion.receipts import receipt_files, receipts_folder
from modelsmith.repository.git import Git
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.pull import PullRequest


class PushToMain:
    """The gate of one push, at one time."""

    def __init__(self, git: Git, now: datetime, facts: KeptFacts) -> None:
        """``facts``: what is known of main's folders."""
        self._git = git
        self._now = now
        self._facts = facts

    def decide(self, pull: PullRequest, main: str, head: str) -> MergeDecision:
        """Raises what keeps the pull request from being merged into main."""
        if pull.head != head:
            raise IntegrityFailure(
                "head-moved", f"Pull request {pull.number} has another head", "Merge its own head.", number=pull.number
            )
        return self._decided(pull, main, self._now)

    def receipts(
        self, pull: PullRequest, decided: MergeDecision, merge: str, pushed: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Files that the receipts commit must add: what the judgement gives, with the signatures that were pushed."""
        main = decided.main
        folder = receipts_folder(decided.change, pull.number)
        merged, signature = adopt_merge(main, folder, merge, pushed, self._now)
        if merged.at > self._now:
            # The merger's clock is ahead, and a key may end between the two: verify judges at the time that was signed.
            decided = self._decided(pull, main.tree.commit, merged.at)
        return receipt_files(pull, decided.change, decided.decision, merged, lambda _: signature)

    def _decided(self, pull: PullRequest, main: str, at: datetime) -> MergeDecision:
        decided = decide_merge(read_governed_state(self._git, main, self._facts), pull, at)
        refuse_unless_open(pull, decided)
        return decided
