"""How pull requests are shown: what each waits for, decided by the same gate that merges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal

from modelsmith.governance.gate import GateDecision
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.promotion.observers import observations_on
from modelsmith.promotion.overrides import Overridden, override_in
from modelsmith.repository.tree import Revision
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError, WaitingForPerson
from modelsmith.schema.observed import Agreement
from modelsmith.schema.pull import PullRequest


class CheckView(Frozen):
    """One check of the harness."""

    name: str
    passed: bool
    sentence: str


class OverrideView(Frozen):
    """A person lets an eval count that came out INCONCLUSIVE, or is asked to."""

    reason: str
    """The reason, in the words of the person who asks."""
    asked_by: str
    role: str | None
    """Who may; None where policy lets nobody, and once it is on main."""
    approved_by: tuple[str, ...]
    run: str
    """Run id of the eval."""


class PullView(Frozen):
    """One pull request and its gate."""

    number: int
    title: str
    status: Literal["open", "merged", "closed"]
    branch: str
    requester: str
    preparer: str
    head: str
    change: str | None
    """Digest that an approval speaks of; none when it does not merge cleanly."""
    gate: Literal["open", "closed", "waiting", "merged", "conflict"]
    waiting_for: tuple[str, ...]
    """Owners whose approval is missing."""
    decides: str
    """The same in words: where several approvals are missing, ``and`` stands between them."""
    approvers: tuple[str, ...]
    refusals: tuple[str, ...]
    notes: tuple[str, ...]
    """What neither opens nor closes the gate: approvals that do not count, authors that are only claimed."""
    checks: tuple[CheckView, ...]
    override: OverrideView | None = None
    """Of an eval that came out INCONCLUSIVE: what its reviewer is asked to let pass, before anything else."""
    observations: tuple[Agreement, ...] = ()
    """Of a deployment: what second observers came to; of an observation: what it comes to. With every scenario."""
    paths: tuple[str, ...]


class UnreadableView(Frozen):
    """A pull request that cannot be relied on, so that nothing of it is shown."""

    number: int
    code: str
    message: str
    mend: str
    broken: bool
    """Whether something is wrong with it; else it only waits for somebody to sign for it."""


def unreadable_views(unreadable: Mapping[int, ModelsmithError]) -> tuple[UnreadableView, ...]:
    """Pull requests that a forge's survey could not read, by number."""
    return tuple(
        UnreadableView(
            number=number,
            code=error.code,
            message=error.message,
            mend=error.mend,
            broken=not isinstance(error, WaitingForPerson),
        )
        for number, error in sorted(unreadable.items())
    )


def view(main: GovernedState, pull: PullRequest) -> PullView:
    """The pull request as it stands against this main; what is wrong with the proposal is shown as a conflict.

    Raises:
        InfrastructureFailure: git cannot work here.
    """
    if pull.status != "open":
        return _view(pull, None, "merged" if pull.status == "merged" else "closed", ())
    gate: Literal["open", "closed", "waiting", "conflict"]
    try:
        decided = decide_merge(main, pull, datetime.now(UTC))
    except InfrastructureFailure:
        raise
    except ModelsmithError as error:
        gate = "closed" if error.code in ("over-limits", "empty-folder") else "conflict"
        return _view(pull, None, gate, (error.message,))
    decision = decided.decision
    gate = "open" if decision.open else "closed" if decision.refusals else "waiting"
    return _view(pull, decided, gate, tuple(refusal.sentence for refusal in decision.refusals))


def override_view(overridden: Overridden | None) -> OverrideView | None:
    """View of an override; None where there is none."""
    if overridden is None:
        return None
    override = overridden.override
    return OverrideView(
        reason=override.reason,
        asked_by=override.asked_by,
        role=overridden.role,
        approved_by=overridden.approved_by,
        run=override.run,
    )


def _observations(decided: MergeDecision) -> tuple[Agreement, ...]:
    main = decided.main
    return observations_on(main, Revision(main.tree.git, decided.tree), decided.change)


def _override(decided: MergeDecision) -> OverrideView | None:
    main = decided.main
    return override_view(override_in(main, Revision(main.tree.git, decided.tree), decided.change))


def _stuck(decision: GateDecision) -> Iterator[str]:
    """Approvals that nobody could give, so that waiting for them has no end."""
    for need in decision.needs:
        if need.satisfied_by is None and not need.eligible:
            yield (
                f"nobody can approve for {' or '.join(need.owners)}: nobody holds that with a valid key, or whoever "
                "does is involved in the change. Let another person open it, or have one more listed in people.yaml"
            )


def _view(
    pull: PullRequest,
    decided: MergeDecision | None,
    gate: Literal["open", "closed", "waiting", "merged", "conflict"],
    refusals: tuple[str, ...],
) -> PullView:
    decision = decided.decision if decided else None
    return PullView(
        number=pull.number,
        title=pull.title,
        status=pull.status,
        branch=pull.branch,
        requester=pull.requester,
        preparer=pull.preparer,
        head=pull.head,
        change=decided.change.digest() if decided else None,
        gate=gate,
        waiting_for=decision.waiting_for if decision else (),
        decides=decision.decides if decision else "",
        approvers=tuple(sorted(decision.approvers)) if decision else (),
        refusals=refusals,
        notes=(*decision.notes, *_stuck(decision)) if decision else (),
        checks=tuple(CheckView(name=c.name, passed=c.passed, sentence=c.sentence) for c in decision.checks)
        if decision
        else (),
        override=_override(decided) if decided else None,
        observations=_observations(decided) if decided else (),
        paths=tuple(path.path for path in decided.change.paths) if decided else (),
    )
