"""``modelsmith verify``: replay everything, trust nothing but the root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.artifacts.seal import check_signed
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.checks import SUMS_FILE
from modelsmith.promotion.history import PROMOTIONS
from modelsmith.promotion.main import Main, read_main
from modelsmith.promotion.verify import check_weights, replay
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput


class VerifyRequest(Request):
    """Judges every change of main again, offline, without a forge, trusting no hook and no merge commit.

    That is: signatures, approvals, receipts, folds, routing, and the gate's arithmetic from each verdict of evidence.

    Pin the governance root with --root, from a source other than this clone; without it, the first commit is trusted.
    Artifacts in the store are checked against their id and signature; the others are reported as not checked. Each PATH
    is a copy of an artifact (its folder) that must be one of main's, or a specialist's folder under promotions/ to
    report on alone.
    """

    paths: Annotated[
        tuple[str, ...], Field(description="Artifact folders, or folders under promotions/."), ARGUMENT
    ] = ()
    root: Annotated[str | None, Field(description="Fingerprint of the governance root that you trust.")] = None
    revision: Annotated[str, Field(description="Commit or branch to verify.")] = "main"


class VerifyResult(Result):
    """What held."""

    verified: bool
    root: str
    pinned: bool
    """Whether the root was given from outside."""
    tip: str
    changes: int
    promotions: int
    approvals: int
    weights: dict[str, str]
    """Specialist -> ``checked`` or ``not checked``."""


def run(workspace: Workspace, request: VerifyRequest) -> VerifyResult:
    """Replay; the first thing that does not hold ends it with exit code 5."""
    git = workspace.git
    tip = git.rev(request.revision)
    if tip is None:
        raise IntegrityFailure("no-history", f"There is no commit '{request.revision}'", "Commit or fetch it first.")
    git.require_sound()
    found = replay(git, tip, request.root, workspace.notify)
    main = read_main(git, tip)
    clusters = {life.cluster for life in main.history.lives.values()}
    copies, chosen = _sort(workspace, main, request.paths)
    stores = {name: workspace.store(load_cluster(main.tree, name).store) for name in clusters}
    return VerifyResult(
        verified=True,
        root=found.root,
        pinned=request.root is not None,
        tip=tip,
        changes=found.changes,
        promotions=found.promotions,
        approvals=found.approvals,
        weights=check_weights(main, stores, chosen) | copies,
    )


def _sort(workspace: Workspace, main: Main, paths: tuple[str, ...]) -> tuple[dict[str, str], frozenset[str]]:
    """Copies of artifacts, checked, by path; and the specialists to look for in the store (all when none is named)."""
    by_artifact = {life.artifact: name for name, life in main.history.lives.items()}
    copies: dict[str, str] = {}
    chosen: set[str] = set()
    for path in paths:
        folder = Path(path)
        if (folder / SUMS_FILE).is_file() and not path.startswith(f"{PROMOTIONS}/"):
            artifact = file_digest(folder / SUMS_FILE)
            if artifact not in by_artifact:
                raise IntegrityFailure(
                    "unknown-artifact", f"{path} holds an artifact that main does not know", "Do not use this copy."
                )
            check_signed(folder, artifact, main.trusted)
            copies[path] = f"checked, {by_artifact[artifact]}"
            continue
        parts = (
            folder.absolute().relative_to(workspace.root).parts
            if folder.absolute().is_relative_to(workspace.root)
            else ()
        )
        if len(parts) < 3 or parts[0] != PROMOTIONS:
            raise InvalidInput(
                "bad-path", f"{path} is neither an artifact folder nor a specialist's folder", "Name one of these."
            )
        chosen.add(main.history.find(parts[2]).specialist)
    return copies, frozenset(chosen) if paths else frozenset(main.history.lives)
