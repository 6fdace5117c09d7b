"""``modelsmith diff-rubric``: what a change of rubric or scenarios does, before anyone accepts it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.evaluation.change.set_change import set_change
from modelsmith.loop.diff import effects
from modelsmith.loop.prior_verdicts import set_at
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.change import Effect, SetChange


class DiffRubricRequest(Request):
    """Shows a rubric or scenario change as what it does: points and scenarios that changed, and verdicts that flip.

    No model is asked: verdicts are carried over from the evidence on main, and those that changed are decided again
    from answers in the cache. Says of every accepted specialist whether it would still clear its gate.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/."), ARGUMENT]
    since: Annotated[str, Field(description="Revision to compare with: a branch, tag or commit.")] = "HEAD"
    to: Annotated[
        str | None, Field(description="Revision with the change; the files as they are on disk when not given.")
    ] = None


class DiffRubricResult(Result):
    """The change and its effects."""

    cluster: str
    since: str
    change: SetChange
    effects: tuple[Effect, ...]
    lost_gates: tuple[str, ...]
    """Specialists that would no longer clear their gate."""


def run(workspace: Workspace, request: DiffRubricRequest) -> DiffRubricResult:
    """Compare the two versions."""
    after = workspace.revision(request.to) if request.to is not None else workspace.files
    cluster = load_cluster(after, request.cluster)
    new = load_eval_set(after, cluster.eval_set)
    old = set_at(workspace, request.since, request.cluster)
    change = set_change(old.governed, new, (old.cluster.gate, cluster.gate)) if old else set_change(None, new)
    main = read_governed_state(workspace.git, "HEAD" if request.to is None else request.to)
    rubric_effects = effects(workspace, main, cluster, new, request.since)
    return DiffRubricResult(
        cluster=request.cluster,
        since=request.since,
        change=change,
        effects=rubric_effects,
        lost_gates=tuple(
            effect.specialist
            for effect in rubric_effects
            if effect.before == "PASS" and effect.after not in ("PASS", None)
        ),
    )
