"""``modelsmith verify``: replay everything, trust nothing but the root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith import __version__
from modelsmith.loop.certificates import Recheck, recheck
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.freshness import stale_deployments
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import PROMOTIONS
from modelsmith.promotion.observers import all_backing
from modelsmith.promotion.remembered import MEMORY_FILE, Verified, recall, remember
from modelsmith.promotion.root import check_pin, find_root
from modelsmith.promotion.tips import (
    KNOWN,
    MAIN,
    MAIN_NAME,
    Seen,
    checked_out,
    compare,
    given_tip,
    named_commit,
    require_checked_out,
    tip_of,
)
from modelsmith.promotion.verify import replay
from modelsmith.promotion.weights import check_converted, check_copy, check_weights
from modelsmith.repository.git import Commit, Git
from modelsmith.repository.load import load_cluster
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.soundness import require_sound
from modelsmith.repository.workspace import Workspace, refuse_local
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.observed import Agreement
from modelsmith.schema.progress import Progress
from modelsmith.schema.steps import step
from modelsmith.signing.files import SUMS_FILE

ROOT_SETTING = "root"
"""``git config modelsmith.root``: the fingerprint that this clone pins."""


class VerifyRequest(Request):
    """Judges every change of main again, offline, without a forge, trusting no hook and no merge commit.

    That is: signatures, approvals, receipts, folds, routing, and the gate's arithmetic from each verdict of evidence.

    It speaks of the branch main, and of the files here only when main is what is checked out; anything else must be
    named with --revision. A fresh clone cannot know whether it was shown the newest main: compare with an older clone
    or a second source (--against), or with a tip that somebody gave you (--tip).

    Pin the governance root with --root, from a source other than this clone, or once and for all with `git config
    modelsmith.root`. Without either, the first commit that has a policy is trusted. What this clone has verified before
    from the same root is not judged again; if that is no longer on main, main was rewound, and this says so.

    Artifacts in the store are checked against their id and signature; the others are reported as not checked. Each PATH
    is a copy of an artifact (its folder) that must be one of main's, or a specialist's folder under promotions/ to
    report on alone.
    """

    paths: Annotated[
        tuple[Path, ...], Field(description="Artifact folders, or folders under promotions/."), ARGUMENT
    ] = ()
    root: Annotated[str | None, Field(description="Fingerprint of the governance root that you trust.")] = None
    revision: Annotated[
        str | None, Field(description="Commit or branch to verify, checked out or not; main when not set.")
    ] = None
    tip: Annotated[str | None, Field(description="Commit of main that you know from elsewhere.")] = None
    against: Annotated[
        str | None, Field(description="Repository (path or URL) whose main must not contradict this one.")
    ] = None
    full: Annotated[
        bool, Field(description="Judge everything, also what was verified before; accepts a main that was rewound.")
    ] = False


class StaleView(Frozen):
    """A deployed specialist that rests on what main no longer asks; nothing was tampered with."""

    specialist: str
    reasons: tuple[str, ...]
    renewal: str


class VerifyResult(Result):
    """What held."""

    verified: bool
    root: str
    pinned: bool
    """Whether the root was given from outside."""
    pin: str | None
    """Where the pin came from: ``--root`` or ``git config modelsmith.root``."""
    revision: str
    """What was verified: the full name of a ref, or a commit."""
    tip: str
    checked_out: bool
    """Whether the work tree is made from this very commit."""
    edited: int
    """Paths of the work tree that differ from what is checked out."""
    compared: dict[str, Seen]
    """Other mains, by where they are: the same, older or newer than the verified one."""
    changes: int
    promotions: int
    approvals: int
    remembered: int
    """How many of the changes were verified in an earlier run of this clone; the others were judged now."""
    rewound_from: str | None
    """With --full: the tip that was verified here before and is no longer on main."""
    firewall: dict[str, Recheck]
    """Specialist -> what became of the firewall's certificate of its training rows."""
    weights: dict[str, str]
    """Specialist -> ``checked`` or ``not checked``."""
    stale: tuple[StaleView, ...]
    """Deployed specialists whose evidence has expired."""
    observations: dict[str, tuple[Agreement, ...]] = {}
    """By specialist: what second observers came to, held against the evidence again, by the keys that main lists."""
    uncounted: tuple[str, ...] = ()
    """Observations that do not count by these keys, in sentences that say why."""


def run(workspace: Workspace, request: VerifyRequest) -> VerifyResult:
    """Replay; the first thing that does not hold ends it with exit code 5."""
    setting = workspace.setting(ROOT_SETTING)
    pinned = check_pin(request.root if request.root is not None else setting)
    with ObjectReader(workspace.root) as git:
        name, tip = named_commit(git, MAIN_NAME if request.revision is None else request.revision)
        here = checked_out(git)
        if request.revision is None:
            require_checked_out(tip, here)
        asked = _asked(git, request)
        require_sound(git)
        log = git.first_parent_log(tip)
        begin, root = find_root(git, log, pinned)
        compared = {where: compare(git, log, commit, where) for where, commit in asked.items()}
        is_main = name == MAIN
        memory = recall(workspace.private)
        if memory and memory.root != root and not request.root:
            raise _other_root(memory, root)
        rewound = memory.tip if memory and is_main and memory.tip not in (commit.id for commit in log) else None
        if rewound and not request.full:
            raise _rewound(rewound, tip)
        if is_main:
            compared |= _known(git, log, settled=request.full or memory is not None)
        before = Verified.nothing(__version__, root, log[begin].id)
        if memory and memory.continues(before) and not request.full:
            begin, before = next(((i, memory) for i, c in enumerate(log) if c.id == memory.tip), (begin, before))
        found = replay(git, before.tip, log[begin + 1 :], workspace.notify, datetime.now(UTC))
        refuse_local(git, tip)
        if request.full:
            check_converted(found.main, workspace.models)
        now = before.model_copy(
            update={
                "tip": tip,
                "changes": before.changes + found.changes,
                "promotions": before.promotions + found.promotions,
                "approvals": before.approvals + found.approvals,
            }
        )
        if is_main and now != memory:
            _remember(workspace, now)
        seen = all_backing(found.main)
        return VerifyResult(
            verified=True,
            root=root,
            pinned=pinned is not None,
            pin="--root" if request.root else f"git config modelsmith.{ROOT_SETTING}" if setting else None,
            revision=name,
            tip=tip,
            checked_out=here.commit == tip,
            edited=here.edited,
            compared=compared,
            changes=now.changes,
            promotions=now.promotions,
            approvals=now.approvals,
            remembered=before.changes,
            rewound_from=rewound,
            firewall=recheck(workspace, found.main),
            weights=_weights(workspace, found.main, request.paths),
            stale=tuple(
                StaleView(specialist=one.specialist, reasons=one.reasons, renewal=one.renewal)
                for one in stale_deployments(found.main)
            ),
            observations={name: (*one.agreeing, *one.disagreeing) for name, one in seen.items()},
            uncounted=tuple(words for one in seen.values() for words in one.uncounted),
        )


def _asked(git: Git, request: VerifyRequest) -> dict[str, str]:
    """Mains that the request says the verified one must not contradict, by where they are."""
    asked = {"--tip": given_tip(git, request.tip)} if request.tip is not None else {}
    return asked if request.against is None else asked | {request.against: tip_of(git, request.against)}


def _known(git: Git, log: Sequence[Commit], settled: bool) -> dict[str, Seen]:
    """Mains that this clone fetched before, beside the verified one.

    One that contradicts it is passed over when that is ``settled``: somebody has accepted this main already.
    """
    found: dict[str, Seen] = {}
    for ref in KNOWN:
        try:
            commit = git.rev(ref)
            found |= {ref: compare(git, log, commit, ref)} if commit else {}
        except IntegrityFailure:
            if not settled:
                raise
    return found


def _other_root(memory: Verified, root: str) -> IntegrityFailure:
    return IntegrityFailure(
        "other-root",
        "Main has another governance root than when it was last verified here",
        "Pin the root that you trust with --root FINGERPRINT; if it is the former one, do not trust main.",
        root=root,
        remembered=memory.root,
    )


def _rewound(tip: str, now: str) -> IntegrityFailure:
    whole = step("verify", {}, full=True)
    return IntegrityFailure(
        "rewound-main",
        f"Main was rewound or rewritten since it was last verified here: {tip[:12]} is no longer on it",
        "Compare with another clone. If that was agreed, accept main as it is with `{next}`.",
        commit=tip,
        tip=now,
    ).then(whole)


def _remember(workspace: Workspace, verified: Verified) -> None:
    try:
        remember(workspace.private, verified)
    except OSError as error:
        workspace.notify(Progress("verify", f"{MEMORY_FILE} cannot be written ({error.strerror}): nothing remembered"))


def _weights(workspace: Workspace, main: GovernedState, paths: tuple[Path, ...]) -> dict[str, str]:
    copies, chosen = _sort(workspace, main, paths)
    clusters = {history.cluster for history in main.histories.by_specialist.values()}
    stores = {name: workspace.store(load_cluster(main.tree, name).store) for name in clusters}
    return check_weights(main, stores, chosen) | copies


def _sort(workspace: Workspace, main: GovernedState, paths: tuple[Path, ...]) -> tuple[dict[str, str], frozenset[str]]:
    """Copies of artifacts, checked, by path; and the specialists to look for in the store (all when none is named)."""
    by_artifact = {history.artifact: history for history in main.histories.by_specialist.values()}
    copies: dict[str, str] = {}
    chosen: set[str] = set()
    for path in paths:
        folder = Path(os.path.normpath(workspace.root / path))
        promotion = folder.is_relative_to(workspace.root / PROMOTIONS)
        if promotion and len(parts := folder.relative_to(workspace.root).parts) >= 3:
            chosen.add(main.histories.find(parts[2]).specialist)
            continue
        if promotion or not (folder / SUMS_FILE).is_file():
            raise InvalidInput(
                "bad-path",
                f"{path} is neither an artifact folder nor a specialist's folder",
                "Name one of these.",
                path=str(path),
            )
        history = by_artifact.get(file_digest(folder / SUMS_FILE))
        if history is None:
            raise IntegrityFailure(
                "foreign-artifact",
                f"{path} holds an artifact that main does not know",
                "Do not use this copy.",
                path=str(path),
            )
        check_copy(main, history, folder)
        copies[str(folder)] = f"checked, {history.specialist}"
    return copies, frozenset(chosen) if paths else frozenset(main.histories.by_specialist)
