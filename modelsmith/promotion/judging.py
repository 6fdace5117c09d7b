"""Main judged from its root, or from where this clone left off: what `verify` says, and what a server obeys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from modelsmith import __version__
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.remembered import MEMORY_FILE, Verified, recall, remember
from modelsmith.promotion.replaying import replay_line
from modelsmith.promotion.root import find_root
from modelsmith.promotion.tips import KNOWN, TipRelation, compare
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import Workspace, refuse_local
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.progress import Progress
from modelsmith.schema.steps import step

ROOT_SETTING = "root"
"""``git config modelsmith.root``: the fingerprint that this clone pins."""


class Judged(NamedTuple):
    """A main whose every step holds."""

    main: GovernedState
    """The governed state at main's tip."""
    before: Verified
    """The result that was remembered from an earlier verification."""
    now: Verified
    compared: Mapping[str, TipRelation]
    """Mains that this clone fetched before, by where they are."""
    rewound_from: str | None
    """With ``full``: the tip that was verified here before and is no longer on main."""


def judge(
    workspace: Workspace,
    git: ObjectReader,
    log: Sequence[Commit],
    pinned: str | None,
    *,
    is_main: bool = True,
    other_root: bool = False,
    full: bool = False,
) -> Judged:
    """Judge the steps of main that this clone has not judged before, and remember that they hold.

    Args:
        workspace: The clone.
        git: Its objects.
        log: Main along its first parents, oldest first.
        pinned: Fingerprint of the root that is trusted; None trusts the first commit that has a policy.
        is_main: Whether it is the clone's main: of another branch nothing is remembered.
        other_root: Accept another root than that of the last time.
        full: Judge everything, also what was judged before; accept a main that was rewound.

    Raises:
        IntegrityFailure: ``other-root``, ``rewound-main``, ``forked-main``, ``reserved-path``, as `find_root`, or as
            `replay`.
        InfrastructureFailure: as `replay_line`.
    """
    tip = log[-1].id
    begin, root = find_root(git, log, pinned)
    memory = recall(workspace.private)
    if memory and memory.root != root and not other_root:
        raise _other_root(memory, root)
    rewound = memory.tip if memory and is_main and memory.tip not in (commit.id for commit in log) else None
    if rewound and not full:
        raise _rewound(rewound, tip)
    compared = _fetched_mains(git, log, settled=full or memory is not None) if is_main else {}
    before = Verified.nothing(__version__, root, log[begin].id)
    if memory and memory.continues(before) and not full:
        begin, before = next(((i, memory) for i, c in enumerate(log) if c.id == memory.tip), (begin, before))
    replayed = replay_line(git, before.tip, log[begin + 1 :], workspace.notify, datetime.now(UTC))
    refuse_local(git, tip)
    now = before.model_copy(
        update={
            "tip": tip,
            "changes": before.changes + replayed.changes,
            "promotions": before.promotions + replayed.promotions,
            "approvals": before.approvals + replayed.approvals,
        }
    )
    if is_main and now != memory:
        _remember(workspace, now)
    return Judged(replayed.main, before, now, compared, rewound)


def _fetched_mains(git: Git, log: Sequence[Commit], settled: bool) -> dict[str, TipRelation]:
    """Mains that this clone fetched before, beside the verified one.

    One that contradicts it is passed over when that is ``settled``: somebody has accepted this main already.
    """
    relations: dict[str, TipRelation] = {}
    for ref in KNOWN:
        try:
            commit = git.rev(ref)
            relations |= {ref: compare(git, log, commit, ref)} if commit else {}
        except IntegrityFailure:
            if not settled:
                raise
    return relations


def _other_root(memory: Verified, root: str) -> IntegrityFailure:
    return IntegrityFailure(
        "other-root",
        "Main has another governance root than when it was last verified here",
        "Pin the root that you trust with --root FINGERPRINT; if it is the former one, do not trust main.",
        root=root,
        remembered=memory.root,
    )


def _rewound(tip: str, now: str) -> IntegrityFailure:
    full_replay = step("verify", {}, full=True)
    return IntegrityFailure(
        "rewound-main",
        f"Main was rewound or rewritten since it was last verified here: {tip[:12]} is no longer on it",
        "Compare with another clone. If that was agreed, accept main as it is with `{next}`.",
        commit=tip,
        tip=now,
    ).then(full_replay)


def _remember(workspace: Workspace, verified: Verified) -> None:
    try:
        remember(workspace.private, verified)
    except OSError as error:
        workspace.notify(Progress("verify", f"{MEMORY_FILE} cannot be written ({error.strerror}): nothing remembered"))
