"""Pull requests as logs of signed events, kept as refs of a git repository: the part of a forge that proves something.

Whoever holds the repository may judge every step (the local forge's pre-receive hook) or not (GitHub): what nobody
enforced, reading detects, since signatures are checked against the people listed on main. `log_writer` says how two
writers stay out of each other's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from datetime import datetime

from pydantic import ValidationError

from modelsmith.forges.events import (
    LoggedEvent,
    check_lengths,
    check_plain,
    fold_pull,
    is_closed,
    new_event,
    opened,
)
from modelsmith.forges.log_writer import LogWriter, not_open, now, unknown_pull
from modelsmith.forges.port import Proposal, Status, Unreceipted
from modelsmith.forges.reader import MAIN, PULLS
from modelsmith.forges.whose import check_closing, closed_at, require_room
from modelsmith.governance.keys import opener_doubt
from modelsmith.repository.budgets import require_openable
from modelsmith.repository.git import Git
from modelsmith.repository.refs import local_refs
from modelsmith.schema.canonical import is_canonical
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.promotion import Approval, ReviewsAttestation
from modelsmith.schema.pull import PullEvent, PullRequest, SignedApproval


class SignedLogs(LogWriter):
    """The common part of forges; each adds how a pull request is opened. See `modelsmith.forges.port.Forge`."""

    def main(self) -> str:
        """See `Forge`."""
        self._refresh()
        return self._reader.main()

    def fetch_into(self, clone: Git) -> str:
        """See `Forge`. Main lands in ``refs/modelsmith/main``, pull requests under their own names.

        No ref is forced. Raises IntegrityFailure (``rewound-forge``) when main or a pull request was rewound or removed
        since.
        """
        self._refresh()
        return self._bring(clone)

    def get(self, number: int) -> PullRequest:
        """See `Forge`."""
        self._refresh()
        return self._seen(number)

    def _seen(self, number: int) -> PullRequest:
        """A pull request as the forge was last seen."""
        tips = self._reader.tips()
        if number not in tips:
            raise unknown_pull(number)
        return self._reader.pull(number, tips, self._reader.main())

    def list(self, status: Status | None = None) -> tuple[PullRequest, ...]:
        """See `Forge`. Only those asked for are verified."""
        return self.survey(status)[0]

    def survey(self, status: Status | None = None) -> tuple[tuple[PullRequest, ...], dict[int, ModelsmithError]]:
        """See `Forge`."""
        self._refresh()
        tips, main = self._reader.tips(), self._reader.main()
        pulls: list[PullRequest] = []
        unreadable: dict[int, ModelsmithError] = {}
        for number, tip in tips.items():
            try:
                if status in (None, self._reader.status(tip, main)):
                    pulls.append(self._reader.pull(number, tips, main))
            except ModelsmithError as error:
                unreadable[number] = error
        return tuple(pulls), unreadable

    def examine(self, proposal: Proposal) -> tuple[str, str]:
        """Main, brought into the clone, and the digest of what the proposal would change on it.

        Raises:
            InvalidInput: ``empty-change``, ``unrelated-base``.
            GateNotCleared: ``conflict``, ``over-limits``.
        """
        main = self.fetch_into(self.clone)
        self._check_base(proposal, main)
        require_openable(self.clone, main, proposal.head, self._reader.governance(main).limits)
        change = self.clone.change(main, self.clone.merge_tree(main, proposal.head))
        if not change.paths:
            raise InvalidInput("empty-change", "The proposal changes nothing on main.", "Commit a change first.")
        return main, change.digest()

    def adopt(
        self,
        proposal: Proposal,
        change: str,
        opened_before: Iterable[PullRequest],
        close: Callable[[int, str], object],
    ) -> PullRequest | None:
        """The acting identity's open pull request that is this proposal already; its others of the branch are closed.

        Whoever else has a branch of that name keeps their pull request.
        """
        adopted = None
        for pull in opened_before:
            if (pull.branch, pull.preparer) != (proposal.branch, self.identity.actor):
                continue
            same = opened(self._reader.log(self._tip(pull.number))).change == change and pull.moved is None
            same = same and opener_doubt(pull, self._reader.governance(self.main()).people) is None
            if same and pull.requester == proposal.requester and adopted is None:
                adopted = pull
            else:
                close(pull.number, f"superseded by a newer proposal of {proposal.branch}")
        return adopted

    def begin(self, number: int, proposal: Proposal, main: str, change: str) -> None:
        """Sign for having opened a pull request, under a number that is not used.

        Raises:
            InfrastructureFailure: ``ref-moved`` when somebody else has begun a log of that number.
            GateNotCleared: ``over-limits`` for words that nobody could read.
        """
        event = PullEvent(
            repository=self._reader.governance(main).repository,
            pull=number,
            kind="opened",
            actor=self.identity.actor,
            at=now(),
            head=proposal.head,
            base=main,
            change=change,
            previous=None,
            branch=proposal.branch,
            title=proposal.title,
            requester=proposal.requester,
            body=proposal.body,
        )
        check_lengths(event, None)
        self._push(self._commit(event, None, (self._root(), proposal.head)), f"{PULLS}{number}", None)

    def numbers(self) -> Set[int]:
        """Numbers of the logs, as they were last read."""
        return self._reader.tips().keys()

    def merged_numbers(self, main: str) -> Set[int]:
        """Numbers that the receipts of a main speak of: each is used once."""
        return self._reader.merged_numbers(main)

    def is_taken(self, number: int) -> bool:
        """Whether something lies where the log of a number belongs, or beneath, as refs were last read."""
        return number in self.numbers() or bool(local_refs(self._reader.git, f"{PULLS}{number}/"))

    def is_open_of(self, number: int, proposal: Proposal) -> bool:
        """Whether a log is that of an open pull request which the acting identity opened on the proposal's branch."""
        self._refresh()
        try:
            pull = self._seen(number)
        except ModelsmithError:
            return False
        return pull.status == "open" and (pull.branch, pull.preparer) == (proposal.branch, self.identity.actor)

    def require_room(self, proposal: Proposal, main: str, open_ones: Iterable[PullRequest]) -> None:
        """Refuse to open one more beside these, where no hook does. Raises as `whose.require_room`."""
        actor = self.identity.actor
        mine = [pull for pull in open_ones if pull.preparer == actor and pull.branch != proposal.branch]
        require_room(self._reader.governance(main), actor, len(mine))

    def require_may_close(self, number: int) -> None:
        """Refuse to close what is others' to close, where no hook does.

        Raises:
            GateNotCleared: ``not-yours-to-close``.
            InvalidInput: ``not-open`` once merged.
        """
        self._refresh()
        log, main = self._reader.log(self._tip(number)), self._reader.main()
        closing = new_event(log[-1], "closed", self.identity.actor, now(), main)
        check_closing(self._reader, opened(log), closing, main)

    def publish(self, commit: str, ref: str) -> None:
        """Let a branch of the acting identity hold a commit, whatever it held before.

        Raises:
            InfrastructureFailure: ``ref-moved`` when somebody else moved it meanwhile.
        """
        published = self._at(ref)
        if published != commit:
            self._push(commit, ref, published)

    def review(self, number: int, approval: SignedApproval) -> PullRequest:
        """See `Forge`."""
        self.add_review(number, approval)
        return self.get(number)

    def add_review(self, number: int, approval: SignedApproval, hooked: bool = True) -> None:
        """`review`, without reading the forge again. Where no hook asks whether the reason is plain, this does."""
        parsed = self._read_approval(number, approval)
        if not hooked:
            check_plain("", "", "", parsed.reason)

        def event(last: LoggedEvent, main: str) -> PullEvent | None:
            pull = self._seen(number)
            if any(review.proof == approval for review in pull.reviews):
                return None
            if pull.status != "open":
                raise not_open(pull.number, pull.status)
            if last.event.repository != parsed.repository:
                raise InvalidInput(
                    "renamed-repository",
                    f"Pull request {number} was opened for {last.event.repository}; main is {parsed.repository} now.",
                    "Close it and propose the change again.",
                    number=number,
                    repository=last.event.repository,
                )
            facts = {"verdict": parsed.verdict, "change": parsed.change}
            return new_event(last, "reviewed", self.identity.actor, now(), main, **facts)

        self._append(number, event, approval)

    def attest(self, attestation: ReviewsAttestation, bundle: bytes) -> None:
        """Keep what a workflow attested of a pull request's reviews; the very same again changes nothing.

        It needs no identity: the bundle says itself who signed it.
        """

        def event(last: LoggedEvent, main: str) -> PullEvent | None:
            if bundle.decode() in self._seen(attestation.pull).attested:
                return None
            return new_event(
                last, "attested", attestation.forge, attestation.read_at, attestation.base, change=attestation.change
            )

        self._append(attestation.pull, event, attestation=bundle)

    def close(self, number: int, reason: str) -> PullRequest:
        """See `Forge`. Works on a pull request whose signatures no longer verify, too: of it nothing is checked."""

        def event(last: LoggedEvent, main: str) -> PullEvent | None:
            tip = self._tip(number)
            if is_closed(self._reader.log(tip)):
                return None
            if self._reader.status(tip, main) == "merged":
                raise not_open(number, "merged")
            return new_event(last, "closed", self.identity.actor, now(), main, body=reason)

        self._append(number, event)
        self._refresh()
        return fold_pull(self._reader.log(self._tip(number)), None)

    def closed_at(self, number: int) -> datetime | None:
        """When one who may close it did, by the log as it was last read; see `whose.closed_at`."""
        return closed_at(self._reader, self._reader.log(self._tip(number)), self._reader.main())

    def unreceipted(self) -> tuple[Unreceipted, ...]:
        """See `Forge`."""
        self._refresh()
        return self._reader.unreceipted(self._reader.tips(), self._reader.main())

    def add_receipts(self, number: int, receipts: str, expected_main: str) -> PullRequest:
        """See `Forge`."""
        self.push_receipts(number, receipts, expected_main)
        return self.get(number)

    def push_receipts(self, number: int, receipts: str, expected_main: str) -> None:
        """`add_receipts`, without reading the forge again."""
        self._push(receipts, MAIN, expected_main, f"{PULLS}{number}")
        self._log_merge(number)

    def merge(self, number: int, merge_commit: str, expected_main: str) -> PullRequest:
        """See `Forge`."""
        self.push_merge(number, merge_commit, expected_main)
        return self.get(number)

    def push_merge(self, number: int, merge_commit: str, expected_main: str) -> None:
        """`merge`, without reading the forge again.

        A caller that was killed between moving main and logging it may call again.
        """
        pull = self.get(number)
        if pull.status == "closed":
            raise not_open(number, pull.status)
        if pull.status == "open":
            self._check_merge(pull, merge_commit, expected_main)
            try:
                self._push(merge_commit, MAIN, expected_main, f"{PULLS}{number}")
            except InfrastructureFailure as error:
                if error.code != "ref-moved" or self.get(number).status != "merged":
                    raise
        self._log_merge(number)

    def _log_merge(self, number: int) -> None:
        """Say in the log that main holds it now; twice is once."""

        def event(last: LoggedEvent, main: str) -> PullEvent | None:
            log = self._reader.log(self._tip(number))
            merge = self._reader.merge_of(opened(log), main)
            if merge is None or any(logged.event.kind in ("closed", "merged") for logged in log):
                return None
            base = self._reader.git.text("rev-parse", f"{merge}^1")
            return new_event(last, "merged", self.identity.actor, now(), base, merge=merge)

        self._append(number, event)

    def _check_base(self, proposal: Proposal, main: str) -> None:
        base, head = self.clone.rev(proposal.base), self.clone.rev(proposal.head)
        if head != proposal.head or base != proposal.base or not self.clone.is_ancestor(base, head):
            raise InvalidInput(
                "unrelated-base", "The proposal's head does not build on its base.", "Name two commits, head on base."
            )
        if not self.clone.is_ancestor(base, main):
            raise InvalidInput(
                "unrelated-base",
                "The proposal is not based on the forge's main.",
                "Fetch main, rebase the proposal on it and try again.",
            )

    def _read_approval(self, number: int, approval: SignedApproval) -> Approval:
        try:
            parsed = Approval.model_validate_json(approval.statement)
        except ValidationError:
            parsed = None
        if parsed is None or not is_canonical(approval.statement.encode(), parsed):
            raise InvalidInput("wrong-approval", "The statement is not an approval.", "Sign the statement as prepared.")
        repository = self._reader.governance(self.main()).repository
        if (parsed.repository, parsed.pull) != (repository, number):
            raise InvalidInput(
                "wrong-approval",
                f"The verdict is about pull request {parsed.pull} of {parsed.repository}.",
                f"Sign one about pull request {number} of {repository}.",
                pull=parsed.pull,
                repository=parsed.repository,
            )
        if parsed.actor != self.identity.actor:
            raise InvalidInput(
                "not-your-verdict",
                f"{self.identity.actor} cannot hand in a verdict of {parsed.actor}.",
                "Give your own verdict, with your own key.",
                actor=self.identity.actor,
            )
        return parsed

    def _check_merge(self, pull: PullRequest, tip: str, expected_main: str) -> None:
        def parents(commit: str) -> tuple[str, ...]:
            commit_id = self.clone.rev(commit)
            return tuple(self.clone.text("rev-list", "--parents", "-n1", commit_id).split()[1:]) if commit_id else ()

        above = parents(tip)
        merge = parents(above[0]) if len(above) == 1 else above
        if merge != (expected_main, pull.head):
            raise InvalidInput(
                "not-a-merge",
                f"The commit does not merge the head of pull request {pull.number} into the main that was expected.",
                "Build the merge again on the current main.",
                number=pull.number,
            )
