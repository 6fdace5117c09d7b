"""Receipts of merges: of those that we make ourselves, and of those that a forge made by its own button or queue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from modelsmith.forges.log_writer import ATTEMPTS, too_busy
from modelsmith.forges.port import Unreceipted
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import Merger, ident
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.promotion.receipts import Merged, receipt_files
from modelsmith.promotion.syncing import sync
from modelsmith.promotion.unreceipted import unreceipted_steps
from modelsmith.repository.git import Git
from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
    IntegrityFailure,
    InvalidInput,
    ModelsmithError,
    WaitingForPerson,
)
from modelsmith.schema.promotion import MERGE_NAMESPACE
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.steps import step
from modelsmith.signing import ssh

_SUBJECT = re.compile(r"Merge pull request #?([1-9][0-9]{0,8})\b", re.ASCII)
"""How GitHub's button and our own merges begin; a hint, and no more."""


def add_missing_receipts(merger: Merger, tip: str) -> tuple[PullRequest, ...]:
    """Push the receipts of every merge that the forge made by itself; which pull requests got theirs, oldest first.

    ``tip`` is main, as this clone has it.

    Raises as `add_receipts`, for the first step of main that gets none: later ones wait for it.
    """
    return tuple(_add_receipts_of_any(merger, unreceipted) for unreceipted in _waiting(merger, tip))


def add_receipts(merger: Merger, number: int) -> PullRequest:
    """Push the receipts of a merge that the forge made by itself, once the gate opens for it as it was made.

    It is judged anew, on the main that it was merged into: others may have been faster than this merge. Receipts of
    what was merged before come first, since times on main only go forward.

    Raises:
        IntegrityFailure: ``merged-past-gate`` when the gate is shut for what was merged, when another tree came of it,
            or when main holds before it what nobody has opened; ``receipts-too-late`` when a later merge has receipts,
            since times on main only go forward.
        WaitingForPerson: ``receipts-missing`` when this account may not push them.
    """
    git = merger.workspace.git
    for _ in range(ATTEMPTS):
        tip = sync(merger)
        pull = merger.forge.get(number)
        if not pull.unreceipted:
            return pull
        assert pull.merge
        waiting = _waiting(merger, tip)
        if not any(number in unreceipted.pulls for unreceipted in waiting):
            raise _too_late(number, pull.merge)
        if number not in waiting[0].pulls:
            _add_receipts_of_any(merger, waiting[0])
            continue
        if pull.withdrawn:
            raise _past_gate(pull, "it was closed, and something else brought its commit onto main")
        main = read_governed_state(git, git.text("rev-parse", f"{pull.merge}^1"))
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            decided = judged(merger, main, pull, now)
        except (GateNotCleared, WaitingForPerson) as error:
            raise _past_gate(pull, error.message) from None
        if git.text("rev-parse", f"{pull.merge}^{{tree}}") != decided.tree:
            raise _past_gate(pull, "the forge's merge has another tree than the one that was judged")
        receipts = receipts_of(merger, pull, decided, pull.merge, now)
        commit = git.commit_files(tip, receipts, f"Receipts of pull request {number}\n", ident(merger))
        try:
            receipted = merger.forge.add_receipts(number, commit, tip)
        except GateNotCleared as error:
            raise _receipts_missing(number, error) from None
        except InfrastructureFailure as error:
            if error.code != "ref-moved":
                raise
            continue
        sync(merger)
        return receipted
    raise too_busy()


def _waiting(merger: Merger, tip: str) -> list[Unreceipted]:
    """Every step of main since the last merge with receipts that waits for its own, oldest first.

    A step that nobody has opened is among them, with no pull request: a squash, a rebase, a push, a branch that moved.
    """
    pulls_by_merge = {unreceipted.merge: unreceipted.pulls for unreceipted in merger.forge.unreceipted()}
    steps = unreceipted_steps(merger.workspace, tip)
    return [Unreceipted(step.id, _named_first(step.subject, pulls_by_merge.get(step.id, ()))) for step in steps]


def _named_first(subject: str, pulls: Sequence[int]) -> tuple[int, ...]:
    """The pull requests that a merge may be of, first the one that its subject names: thousands may hold its commit."""
    named = _SUBJECT.match(subject)
    return tuple(sorted(pulls, key=lambda number: (named is None or number != int(named[1]), number)))


def _add_receipts_of_any(merger: Merger, waiting: Unreceipted) -> PullRequest:
    """Push the receipts of one merge, as of the first of its pull requests whose gate opens for it.

    Who opens again what was merged, signed or not, so holds up nobody. Raises as `add_receipts`: of the first of them.
    """
    if not waiting.pulls:
        raise _not_opened(merger.workspace.git, waiting.merge)
    refusals: list[ModelsmithError] = []
    for number in waiting.pulls:
        try:
            return add_receipts(merger, number)
        except (IntegrityFailure, GateNotCleared, InvalidInput) as error:
            refusals.append(error)
    raise refusals[0]


def judged(merger: Merger, main: GovernedState, pull: PullRequest, now: datetime) -> MergeDecision:
    """The judgement of a pull request whose gate is open."""
    decided = decide_merge(main, pull, now)
    refuse_unless_open(pull, decided)
    if pull.opening is None:
        raise GateNotCleared(
            "nobody-opened",
            f"Nobody has signed for having opened pull request {pull.number}",
            "Have it proposed again: `modelsmith pr open`.",
            number=pull.number,
        )
    return decided


def receipts_of(
    merger: Merger, pull: PullRequest, decided: MergeDecision, merge: str, now: datetime
) -> dict[str, bytes | None]:
    """Path and content of the receipts of a merge commit, signed by the merger."""
    return dict(
        receipt_files(
            pull,
            decided.change,
            decided.decision,
            Merged(merge, merger.actor, now),
            lambda receipt: ssh.sign(receipt, merger.key, MERGE_NAMESPACE).encode(),
        )
    )


def refuse_unless_open(pull: PullRequest, decided: MergeDecision) -> None:
    """Raise what a closed gate means for the caller's exit code."""
    decision = decided.decision
    if decision.open:
        return
    if decision.refusals:
        show = step("pr show", {"number": pull.number})
        raise GateNotCleared(
            "gate-closed",
            f"Pull request {pull.number}: " + "; ".join(refusal.sentence for refusal in decision.refusals),
            "See `{next}`.",
            refusals=[refusal.code for refusal in decision.refusals],
        ).then(show)
    several = sum(need.satisfied_by is None for need in decision.needs) > 1
    approve = step("approve", {"number": pull.number}, key="KEY")
    approvers = "For each, one owner" if several else "One of them"
    raise WaitingForPerson(
        "approval-missing",
        f"Pull request {pull.number} waits for {decision.decides}",
        f"{approvers} runs `{{next}}`.",
        waiting_for=list(decision.waiting_for),
    ).then(approve)


def _past_gate(pull: PullRequest, why: str) -> IntegrityFailure:
    return IntegrityFailure(
        "merged-past-gate",
        f"The forge merged pull request {pull.number} as {str(pull.merge)[:12]}, and no receipts can be given: {why}",
        "Nobody's clone verifies main with it. Somebody who passes the rules of main moves it back to before that "
        "merge; then have the change proposed again.",
        number=pull.number,
        merge=pull.merge,
    )


def _not_opened(git: Git, commit: str) -> IntegrityFailure:
    parents = git.text("rev-list", "--parents", "-n1", commit).split()[1:]
    merged = f"merges {parents[1][:12]}, which no pull request was opened with" if len(parents) == 2 else "is no merge"
    return IntegrityFailure(
        "merged-past-gate",
        f"Commit {commit[:12]} of main {merged}, and no receipts can be given for it",
        "A squash, a rebase, a push to main and the merge of a branch that moved all look like this. Somebody who "
        "passes the rules of main moves it back to before that commit; then have the change proposed again.",
        commit=commit,
    )


def _too_late(number: int, merge: str) -> IntegrityFailure:
    return IntegrityFailure(
        "receipts-too-late",
        f"Pull request {number} was merged as {merge[:12]} without receipts, and a later merge has some",
        "Times on main only go forward, so none can be added. Move main back to before that merge, and merge both "
        "again.",
        number=number,
        merge=merge,
    )


def _receipts_missing(number: int, error: GateNotCleared) -> WaitingForPerson:
    return WaitingForPerson(
        "receipts-missing",
        f"Pull request {number} is merged, and this account may not push its receipts: {error.message}",
        "An account on the bypass list of main's rules runs `{next}`. Until then main does not verify.",
        number=number,
    ).then(step("pr merge", {"number": number}))
