"""``modelsmith why``: what became of a failure, iteration by iteration."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field

from modelsmith.loop.diagnoses import failed_in, read_diagnoses
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion import records
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.diagnosis import Diagnosis, FailureCluster
from modelsmith.schema.errors import InvalidInput

Outcome = Literal["fixed", "still failing", "regressed", "passes", "not evaluated"]


class WhyRequest(Request):
    """Follows a failing scenario or a failure cluster through the iterations of this machine.

    What failed, which rows were made for it, how they were trained on, which adapter came of it, and whether that one
    fixed it, still fails, or fails where it passed before. Held-out scenarios take no part in diagnosis.
    """

    id: Annotated[str, Field(description="Id of a scenario, or of a failure cluster as diagnose names it."), ARGUMENT]
    cluster: Annotated[
        str | None, Field(description="Cluster, a folder name under clusters/; needed where several know the id.")
    ] = None


class Turn(Frozen):
    """One iteration, seen from the failure."""

    iteration: int
    diagnosed: str
    """Model whose failures were diagnosed."""
    tag: str
    """Of its run."""
    pattern: str | None
    """Failure cluster that it belongs to; None where it did not fail."""
    says: str | None
    """The pattern in words."""
    failed: int
    """Failed cases of that pattern; 0 where there were none."""
    rows: int
    """Training rows that were aimed at it."""
    methods: tuple[str, ...]
    """Of the training, in order."""
    specialist: str | None
    """What was trained; None where training did not end."""
    state: str | None
    still: int | None
    """Of the failed cases, those that the candidate fails too; None where it was not evaluated."""
    outcome: Outcome


class WhyResult(Result):
    """What became of a failure, oldest iteration first."""

    cluster: str
    id: str
    kind: Literal["scenario", "pattern"]
    turns: tuple[Turn, ...]
    now: Outcome
    """Outcome of the last iteration whose candidate was evaluated."""


def run(workspace: Workspace, request: WhyRequest) -> WhyResult:
    """Follow a failure through the iterations."""
    main = read_governed_state(workspace.git, "HEAD")
    clusters = (
        [request.cluster]
        if request.cluster
        else sorted({p.split("/")[1] for p in main.tree.paths("clusters") if p.endswith("/cluster.yaml")})
    )
    _refuse_held_out(main, clusters, request.id)
    known = {cluster: found for cluster in clusters if (found := read_diagnoses(workspace, cluster))}
    speaking = [cluster for cluster, found in known.items() if request.id in _ids(found)]
    if len(speaking) != 1:
        raise _unknown(request.id, known, speaking)
    cluster, diagnoses = speaking[0], known[speaking[0]]
    turns = tuple(_turn(workspace, main, cluster, request.id, one) for one in diagnoses)
    evaluated = [turn.outcome for turn in turns if turn.outcome != "not evaluated"]
    return WhyResult(
        cluster=cluster,
        id=request.id,
        kind="pattern" if any(c.id == request.id for one in diagnoses for c in one.clusters) else "scenario",
        turns=turns,
        now=evaluated[-1] if evaluated else "not evaluated",
    )


def _ids(diagnoses: Sequence[Diagnosis]) -> set[str]:
    return {name for one in diagnoses for cluster in one.clusters for name in (cluster.id, *cluster.cases)}


def _turn(workspace: Workspace, main: GovernedState, cluster: str, name: str, diagnosis: Diagnosis) -> Turn:
    found = next((one for one in diagnosis.clusters if name == one.id or name in one.cases), None)
    cases = set() if found is None else set(found.cases) if found.id == name else {name}
    failed = failed_in(workspace, cluster, records.candidate_tag(cluster, diagnosis.iteration))
    trained = next(
        (
            one
            for one in main.histories.of_cluster(cluster)
            if any(r.event == "candidate" and r.iteration == diagnosis.iteration for r in one.records)
        ),
        None,
    )
    still = None if failed is None else len(cases & failed)
    return Turn(
        iteration=diagnosis.iteration,
        diagnosed=diagnosis.model,
        tag=diagnosis.tag,
        pattern=found.id if found else None,
        says=found.pattern if found else None,
        failed=found.failed_cases if found else 0,
        rows=diagnosis.rows.get(found.id, 0) if found else 0,
        methods=diagnosis.methods,
        specialist=trained.specialist if trained else None,
        state=trained.state if trained else None,
        still=still,
        outcome=_outcome(name, found, still, failed),
    )


def _outcome(name: str, found: FailureCluster | None, still: int | None, failed: set[str] | None) -> Outcome:
    if failed is None or still is None:
        return "not evaluated"
    if found is None:
        return "regressed" if name in failed else "passes"
    return "still failing" if still else "fixed"


def _refuse_held_out(main: GovernedState, clusters: Sequence[str], name: str) -> None:
    for cluster in clusters:
        if any(one.id == name for one in load_eval_set(main.tree, load_cluster(main.tree, cluster).eval_set).held_out):
            raise InvalidInput(
                "unknown-failure",
                f"{name} is a held-out scenario, and takes no part in diagnosis",
                "Ask about a core or micro scenario, or a failure cluster.",
                id=name,
            )


def _unknown(name: str, known: dict[str, list[Diagnosis]], speaking: Sequence[str]) -> InvalidInput:
    if speaking:
        return InvalidInput(
            "ambiguous-tag", f"Several clusters know {name}", "Name one with --cluster.", clusters=[*speaking]
        )
    names = sorted({each for found in known.values() for each in _ids(found)})
    near = get_close_matches(name, names, n=3)
    mend = f"Did you mean {' or '.join(near)}?" if near else "See `modelsmith diagnose --tag TAG` for what failed."
    return InvalidInput("unknown-failure", f"No iteration on this machine diagnosed {name!a}", mend, id=name)
