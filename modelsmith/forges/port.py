"""What a forge is to the rest: somewhere to propose a change, hear verdicts about it, and merge it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from modelsmith.governance.named_checks import NamedCheck
from modelsmith.repository.git import Git
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.pull import PullRequest, SignedApproval

Status = Literal["open", "merged", "closed"]


@dataclass(frozen=True)
class Proposal:
    """A change to be proposed."""

    branch: str
    """Name under which whoever opens it has at most one proposal open at a time."""
    title: str
    body: str
    head: str
    """Commit to merge; its objects are in the clone."""
    base: str
    """Commit of main that ``head`` was made on; main may have moved on since."""
    requester: str
    """Actor who asked for the change; no approver of it when it is the opener, or when a harness says so."""


@dataclass(frozen=True)
class ForgeIdentity:
    """Person or harness who acts on the forge, with its key."""

    actor: str
    """Id in ``people.yaml``."""
    key: Path
    """Private SSH key, or a public one whose private half is in an agent or token."""


@dataclass(frozen=True)
class Standing:
    """How a pull request stands, for those who read it at the forge. Nothing of it decides anything."""

    gate: Literal["open", "waiting", "closed"]
    line: str
    """The state in one sentence."""
    details: tuple[str, ...]
    """What is wrong, missing or to be known; sentences that may quote what others wrote."""
    reviewers: tuple[Mapping[str, str], ...]
    """Logins, by forge, of each person who could give an approval that is missing."""
    page: str = ""
    """What the toolkit tells about the change itself, as Markdown in which nothing of others is more than words; empty
    where it tells nothing. Pictures are named by their place in the proposal: ``](/PATH.svg)``."""
    words: str = ""
    """What its opener wrote, where that is not the page itself."""
    labels: tuple[str, ...] = ()
    """In a word or two each, so that a list of many can be sorted by it: the gate, the event, the eval's verdict."""


class Unreceipted(NamedTuple):
    """A merge of which main has no receipts yet."""

    merge: str
    pulls: tuple[int, ...]
    """Those that it may be of: that were opened with its commit."""


class Forge(Protocol):
    """A place that holds pull requests. Every answer is authenticated; a call that was killed may be made again.

    What forges do not do alike, and callers may not rely on:

    - Numbers grow, with gaps: a forge may number other things with them.
    - What was opened, and verdicts speak of, is ``head``. Where a branch may move on, ``moved`` says where it is, and
      the gate is shut.
    - A forge may close a pull request by itself. That it is merged, only main says.
    - Verdicts are signed. What a forge heard without a signature is ``heard``, and counts for nothing.
    - A forge may judge a push by a hook of ours, by rules of its own, or not at all: who merges has judged before.
    - A forge may want to merge by itself, at once or later, and then receipts follow the merge (`land`,
      `PullRequest.unreceipted`, `add_receipts`). Until they are there, main does not verify.

    All methods raise InfrastructureFailure when the forge cannot be reached, IntegrityFailure when what it holds does
    not verify.
    """

    def main(self) -> str:
        """Commit that main is at."""
        ...

    def fetch_into(self, clone: Git) -> str:
        """Bring main and every pull request's objects into a clone, touching neither branch nor work tree.

        Returns the commit of main.
        """
        ...

    def open(self, proposal: Proposal) -> PullRequest:
        """Propose a change as a pull request.

        An open pull request of the same opener, branch, change and requester is adopted, not opened again; another
        change of theirs on the same branch supersedes it: the old one is closed first. What somebody else opened under
        that name stays, and this gets a number of its own.

        Raises:
            InvalidInput: ``empty-change``, ``unrelated-base``.
            GateNotCleared: ``conflict`` when it does not merge cleanly into main.
        """
        ...

    def get(self, number: int) -> PullRequest:
        """One pull request. Raises InvalidInput (``unknown-pull``)."""
        ...

    def list(self, status: Status | None = None) -> tuple[PullRequest, ...]:
        """Pull requests by number, all or of one status, without those that cannot be relied on."""
        ...

    def survey(self, status: Status | None = None) -> tuple[tuple[PullRequest, ...], dict[int, ModelsmithError]]:
        """`list`, and by number why the others cannot be relied on: one of them hides no other.

        WaitingForPerson among those reasons is one that nobody has signed for yet.
        """
        ...

    def review(self, number: int, approval: SignedApproval) -> PullRequest:
        """Hand in a signed verdict of the acting person; the very same one again changes nothing.

        Raises:
            InvalidInput: ``not-open``, ``not-your-verdict``, ``wrong-approval`` (about something else).
        """
        ...

    def close(self, number: int, reason: str) -> PullRequest:
        """Close without merging; closing again changes nothing. A forge may let others close in its own ways.

        Only who opened or asked for it, or could decide about a path that it changes, may close it.

        Raises:
            InvalidInput: ``not-open`` once merged.
            GateNotCleared: ``not-yours-to-close``.
        """
        ...

    def merge(self, number: int, merge_commit: str, expected_main: str) -> PullRequest:
        """Move main to a merge of the pull request, unless main has moved from ``expected_main``.

        ``merge_commit`` has the parents main and head, or is the single receipts commit on top of such a merge. A
        pull request that is merged already is returned as it is.

        Raises:
            InvalidInput: ``not-open`` when closed, ``not-a-merge``.
            GateNotCleared: the forge refuses, with its reason; ``branch-moved`` where its branch is elsewhere now.
            InfrastructureFailure: ``ref-moved`` when main is elsewhere.
        """
        ...

    def land(self, number: int, message: str) -> bool:
        """Let the forge merge the head as it was opened, where its rules of main want that; the caller has judged.

        False: it wants no such thing, and the caller pushes the merge with its receipts (`merge`). True: main holds a
        merge now. Which main it was merged into, and with which tree, is for the caller to look at.

        Raises:
            WaitingForPerson: ``queued`` when the forge took it into a queue, which is not merged.
            GateNotCleared: ``branch-rules`` with the forge's own no, ``branch-moved``.
        """
        ...

    def unreceipted(self) -> tuple[Unreceipted, ...]:
        """Merges of what was opened that the forge made since the last receipts, oldest first.

        Their receipts come before any others.
        """
        ...

    def add_receipts(self, number: int, receipts: str, expected_main: str) -> PullRequest:
        """Move main to the receipts of a merge that it holds, unless main has moved from ``expected_main``.

        Raises:
            GateNotCleared: the forge refuses, with its reason.
            InfrastructureFailure: ``ref-moved`` when main is elsewhere.
        """
        ...

    def announce(self, number: int, standing: Callable[[], Standing]) -> None:
        """Tell the forge's readers how a pull request stands; a forge that people do not read does not ask.

        Nothing depends on it, so that it could not be told is no failure.
        """
        ...

    def report(self, commit: str, checks: Sequence[NamedCheck]) -> None:
        """Show at a commit how the named checks stand; a forge that people do not read shows nothing.

        It may be what the forge asks for before it merges anything itself, so that it could not be shown is a failure.
        """
        ...

    def tell(self, number: int, page: str) -> None:
        """Show readers of a pull request what an eval of it came to, in one comment that is edited.

        A forge that people do not read shows nothing. Nothing depends on it, so that it could not be told is no
        failure. ``page`` is Markdown in which nothing of others is more than words.
        """
        ...
