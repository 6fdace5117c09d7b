"""``modelsmith verify``: replay everything, trust nothing but the root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.loop.certificates import Recheck, recheck
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.audit_files import CheckedAudit, check_audit
from modelsmith.promotion.freshness import stale_deployments
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import PROMOTIONS
from modelsmith.promotion.judging import ROOT_SETTING, judge
from modelsmith.promotion.observers import all_backing
from modelsmith.promotion.root import check_pin, find_root
from modelsmith.promotion.tips import (
    MAIN,
    MAIN_NAME,
    TipRelation,
    checked_out,
    compare,
    given_tip,
    named_commit,
    require_checked_out,
    tip_of,
)
from modelsmith.promotion.weights import check_converted, check_copy, check_weights
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.load import load_cluster
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.soundness import require_sound
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.observed import Agreement
from modelsmith.signing.files import SUMS_FILE


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
    audit: Annotated[Path | None, Field(description="Folder of a bundle that `audit` wrote: it must hold too.")] = None
    full: Annotated[
        bool, Field(description="Judge everything, also what was verified before; accepts a main that was rewound.")
    ] = False


class StaleView(Frozen):
    """A deployed specialist that rests on what main no longer asks; nothing was tampered with."""

    specialist: str
    reasons: tuple[str, ...]
    renewal: str


class VerifyResult(Result):
    """Result of a replay of main."""

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
    compared: dict[str, TipRelation]
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
    audit: CheckedAudit | None = None
    """With --audit: what the bundle says, after it was made again from main and was the same."""
    uncounted: tuple[str, ...] = ()
    """Observations that do not count by these keys, in sentences that say why."""


def run(workspace: Workspace, request: VerifyRequest) -> VerifyResult:
    """Replay; the first thing that does not hold ends it with exit code 5."""
    setting = workspace.setting(ROOT_SETTING)
    pinned = check_pin(request.root if request.root is not None else setting)
    with ObjectReader(workspace.root) as git:
        name, tip = named_commit(git, MAIN_NAME if request.revision is None else request.revision)
        checkout = checked_out(git)
        if request.revision is None:
            require_checked_out(tip, checkout)
        tips = _tips_to_compare(git, request)
        require_sound(git)
        log = git.first_parent_log(tip)
        compared = {where: compare(git, log, commit, where) for where, commit in tips.items()}
        judged = judge(
            workspace, git, log, pinned, is_main=name == MAIN, other_root=bool(request.root), full=request.full
        )
        compared |= judged.compared
        before, now, main = judged.before, judged.now, judged.main
        if request.full:
            check_converted(main, workspace.models)
        backings = all_backing(main)
        audit = _audited(git, main, log, now.root, request.audit) if request.audit else None
        return VerifyResult(
            verified=True,
            root=now.root,
            pinned=pinned is not None,
            pin="--root" if request.root else f"git config modelsmith.{ROOT_SETTING}" if setting else None,
            revision=name,
            tip=tip,
            checked_out=checkout.commit == tip,
            edited=checkout.edited,
            compared=compared,
            changes=now.changes,
            promotions=now.promotions,
            approvals=now.approvals,
            remembered=before.changes,
            rewound_from=judged.rewound_from,
            firewall=recheck(workspace, main, full=request.full),
            weights=_weights(workspace, main, request.paths),
            stale=tuple(
                StaleView(specialist=deployment.specialist, reasons=deployment.reasons, renewal=deployment.renewal)
                for deployment in stale_deployments(main)
            ),
            audit=audit,
            observations={name: (*backing.agreeing, *backing.disagreeing) for name, backing in backings.items()},
            uncounted=tuple(words for backing in backings.values() for words in backing.uncounted),
        )


def _audited(git: ObjectReader, main: GovernedState, log: Sequence[Commit], root: str, folder: Path) -> CheckedAudit:
    """A bundle of `audit`, held against the main that was verified, from its root on."""
    begin, _ = find_root(git, log, root)
    return check_audit(git, main, log[begin:], root, folder)


def _tips_to_compare(git: Git, request: VerifyRequest) -> dict[str, str]:
    """Mains that the request says the verified one must not contradict, by where they are."""
    tips = {"--tip": given_tip(git, request.tip)} if request.tip is not None else {}
    return tips if request.against is None else tips | {request.against: tip_of(git, request.against)}


def _weights(workspace: Workspace, main: GovernedState, paths: tuple[Path, ...]) -> dict[str, str]:
    copies, specialists = _sort(workspace, main, paths)
    clusters = {history.cluster for history in main.histories.by_specialist.values()}
    stores = {name: workspace.store(load_cluster(main.tree, name).store) for name in clusters}
    return check_weights(main, stores, specialists) | copies


def _sort(workspace: Workspace, main: GovernedState, paths: tuple[Path, ...]) -> tuple[dict[str, str], frozenset[str]]:
    """Copies of artifacts, checked, by path; and the specialists to look for in the store (all when none is named)."""
    by_artifact = {history.artifact: history for history in main.histories.by_specialist.values()}
    copies: dict[str, str] = {}
    specialists: set[str] = set()
    for path in paths:
        folder = Path(os.path.normpath(workspace.root / path))
        promotion = folder.is_relative_to(workspace.root / PROMOTIONS)
        if promotion and len(parts := folder.relative_to(workspace.root).parts) >= 3:
            specialists.add(main.histories.find(parts[2]).specialist)
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
    return copies, frozenset(specialists) if paths else frozenset(main.histories.by_specialist)
