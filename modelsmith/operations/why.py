"""``modelsmith why``: what became of a failure, iteration by iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field

from modelsmith.governance.states import SpecialistHistory
from modelsmith.loop.diagnoses import Answered, answered_in, read_diagnoses
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion import records
from modelsmith.promotion.bases import training_of
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.diagnosis import Diagnosis, FailureCluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

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
    """Tag of its run."""
    pattern: str | None
    """Failure cluster that it belongs to; None where it did not fail."""
    says: str | None
    """The pattern in words."""
    failed: int
    """Failed cases of that pattern; 0 where there were none."""
    rows: int
    """Training rows that were aimed at it."""
    methods: tuple[str, ...]
    """Methods of the training, in order."""
    specialist: str | None
    """What main says was trained on this diagnosis; None where it names nothing."""
    state: str | None
    still: int | None
    """Of the failed cases, those that the candidate fails too; None where it was not evaluated."""
    outcome: Outcome
    note: str = ""
    """Why adapter or outcome are not told here although something of them lies here; mostly nothing."""


class WhyResult(Result):
    """The history of a failure, oldest iteration first."""

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
    by_cluster = {cluster: read for cluster in clusters if (read := read_diagnoses(workspace, cluster))}
    speaking = [cluster for cluster, diagnoses in by_cluster.items() if request.id in _ids(diagnoses)]
    if len(speaking) != 1:
        raise _unknown(request.id, by_cluster, speaking)
    cluster, diagnoses = speaking[0], by_cluster[speaking[0]]
    patterns = [pattern for each in diagnoses for pattern in each.clusters if pattern.id == request.id]
    cases = frozenset(name for pattern in patterns for name in pattern.cases) or frozenset({request.id})
    trained = _trained(main, cluster)
    turns = tuple(_turn(workspace, cluster, request.id, cases, trained, diagnosis) for diagnosis in diagnoses)
    evaluated = [turn.outcome for turn in turns if turn.outcome != "not evaluated"]
    return WhyResult(
        cluster=cluster,
        id=request.id,
        kind="pattern" if patterns else "scenario",
        turns=turns,
        now=evaluated[-1] if evaluated else "not evaluated",
    )


def _ids(diagnoses: Sequence[Diagnosis]) -> set[str]:
    return {name for diagnosis in diagnoses for cluster in diagnosis.clusters for name in (cluster.id, *cluster.cases)}


def _trained(main: GovernedState, cluster: str) -> dict[tuple[int, str], SpecialistHistory]:
    """What was trained, by its iteration and the run whose failures it answers: two clones may count alike."""
    histories = {}
    for history in main.histories.of_cluster(cluster):
        facts = None if history.is_export else training_of(main, history)
        if facts:
            histories[history.iteration, facts.diagnosed_run] = history
    return histories


def _turn(
    workspace: Workspace,
    cluster: str,
    name: str,
    cases: frozenset[str],
    trained: Mapping[tuple[int, str], SpecialistHistory],
    diagnosis: Diagnosis,
) -> Turn:
    pattern = next((pattern for pattern in diagnosis.clusters if name == pattern.id), None)
    pattern = pattern or next((pattern for pattern in diagnosis.clusters if name in pattern.cases), None)
    if pattern and pattern.id == name:
        cases = frozenset(pattern.cases)
    history = trained.get((diagnosis.iteration, diagnosis.run_id))
    answered, note = _answered(workspace, cluster, diagnosis, history)
    if history is None and (other := next((h for (n, _), h in trained.items() if n == diagnosis.iteration), None)):
        note = f"iteration {diagnosis.iteration} on main is {other.specialist}, of another diagnosis than this one"
    still = None if answered is None else _still_failing(answered, diagnosis, pattern, cases)
    return Turn(
        iteration=diagnosis.iteration,
        diagnosed=diagnosis.model,
        tag=diagnosis.tag,
        pattern=pattern.id if pattern else None,
        says=pattern.pattern if pattern else None,
        failed=pattern.failed_cases if pattern else 0,
        rows=diagnosis.rows.get(pattern.id, 0) if pattern else 0,
        methods=diagnosis.methods,
        specialist=history.specialist if history else None,
        state=history.state if history else None,
        still=still,
        outcome=_outcome(pattern is not None, still),
        note=note,
    )


def _still_failing(
    answered: Answered, diagnosis: Diagnosis, cluster: FailureCluster | None, cases: frozenset[str]
) -> int | None:
    """How many of the cases fail now; None where they were not asked. Cases that passed before count as well."""
    if cluster:
        return len(cases & answered.failed) if cases <= answered.asked else None
    passed = (cases & answered.asked).difference(*(pattern.cases for pattern in diagnosis.clusters))
    return len(passed & answered.failed) if passed else None


def _answered(
    workspace: Workspace, cluster: str, diagnosis: Diagnosis, history: SpecialistHistory | None
) -> tuple[Answered | None, str]:
    """The candidate's answers, where they are sure, and else why they are not.

    A run counts with the answers that it was recorded with, of the specialist's weights, and where main's evidence
    names one, as that one.
    """
    tag = records.candidate_tag(cluster, diagnosis.iteration)
    if history is None:
        return None, ""
    try:
        answered = answered_in(workspace, cluster, tag)
    except IntegrityFailure:
        return None, f"the answers of run {tag} are not those it was recorded with"
    if answered is None:
        return None, ""
    named = {record.eval_run for record in history.records if record.eval_tag == tag} - {None}
    if answered.run.weights != history.artifact or (named and named != {answered.run.run_id}):
        return None, f"the run {tag} on this machine is another one than that of {history.specialist} on main"
    return answered, ""


def _outcome(failed_before: bool, still: int | None) -> Outcome:
    if still is None:
        return "not evaluated"
    if failed_before:
        return "still failing" if still else "fixed"
    return "regressed" if still else "passes"


def _refuse_held_out(main: GovernedState, clusters: Sequence[str], name: str) -> None:
    for cluster in clusters:
        if any(
            scenario.id == name
            for scenario in load_eval_set(main.tree, load_cluster(main.tree, cluster).eval_set).held_out
        ):
            raise InvalidInput(
                "unknown-failure",
                f"{name} is a held-out scenario, and takes no part in diagnosis",
                "Ask about a core or micro scenario, or a failure cluster.",
                id=name,
            )


def _unknown(name: str, by_cluster: dict[str, list[Diagnosis]], speaking: Sequence[str]) -> InvalidInput:
    if speaking:
        return InvalidInput(
            "ambiguous-tag", f"Several clusters know {name}", "Name one with --cluster.", clusters=[*speaking]
        )
    names = sorted({each for diagnoses in by_cluster.values() for each in _ids(diagnoses)})
    near = get_close_matches(name, names, n=3)
    mend = f"Did you mean {' or '.join(near)}?" if near else "See `modelsmith diagnose --tag TAG` for what failed."
    return InvalidInput("unknown-failure", f"No iteration on this machine diagnosed {name[:80]!a}", mend, id=name[:80])
