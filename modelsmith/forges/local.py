"""A forge inside a bare git repository: pull requests are refs, everything said about them is a signed commit.

The pre-receive hook judges every step. What it cannot enforce on one's own disk, reading detects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelsmith.forges.log_writer import ATTEMPTS, too_busy
from modelsmith.forges.logs import SignedLogs
from modelsmith.forges.port import Proposal, Standing
from modelsmith.governance.named_checks import NamedCheck
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.pull import PullRequest


class LocalForge(SignedLogs):
    """See `modelsmith.forges.port.Forge`. It numbers pull requests by itself, one after the other."""

    def open(self, proposal: Proposal) -> PullRequest:
        """See `Forge`."""
        for _ in range(ATTEMPTS):
            main, change = self.examine(proposal)
            adopted = self.adopt(proposal, change, self.list("open"), self.close)
            if adopted:
                return adopted
            number = 1 + max(self.numbers(), default=0)
            try:
                self.begin(number, proposal, main, change)
            except InfrastructureFailure as error:
                if error.code != "ref-moved":
                    raise
                continue
            return self.get(number)
        raise too_busy()

    def land(self, number: int, message: str) -> bool:
        """See `Forge`. It never merges by itself."""
        return False

    def announce(self, number: int, standing: Callable[[], Standing]) -> None:
        """See `Forge`. Its readers use the toolkit, which tells them."""

    def report(self, commit: str, checks: Sequence[NamedCheck]) -> None:
        """See `Forge`. Its readers ask `modelsmith check`."""

    def tell(self, number: int, page: str) -> None:
        """See `Forge`. Its readers have the page where they asked for it."""
