"""Evaluating a model of a cluster: which weights, which tag, and the run's result in folder and ledger."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from modelsmith.artifacts.kinds import export_of
from modelsmith.artifacts.seal import base_of, verify_artifact
from modelsmith.artifacts.store import Store
from modelsmith.evaluation.cache import Cache
from modelsmith.evaluation.causes import PriorRun, prior_run
from modelsmith.evaluation.engine import run_eval, run_request
from modelsmith.evaluation.headline import headline, of_a_part
from modelsmith.evaluation.judges.agreement import measure_agreement
from modelsmith.evaluation.judges.remembering import RememberingJudge
from modelsmith.evaluation.results import RunFolder
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evaluation.summary import cost, run_id
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.bases import base_source
from modelsmith.loop.beside import waiting_for_doors
from modelsmith.loop.engines import Target, engine_of, open_judge, open_substrate
from modelsmith.points.check import READING
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Section
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.progress import Progress
from modelsmith.schema.run import GateRule, Judged, Observation, RunResult
from modelsmith.schema.source import Chat
from modelsmith.substrates.endpoint.facts import unknown_weights
from modelsmith.substrates.port import Substrate

BASE = "base"


def target_of(workspace: Workspace, cluster: Cluster, model: str, artifact: str | None, at: str = "HEAD") -> Target:
    """The base model, a baseline of the cluster, or a specialist whose sealed artifact is in the store and intact.

    A specialist stands on the base model that its artifact names, also where the cluster names another one by now. An
    export stands on none: its artifact is all that is loaded.

    Raises:
        InvalidInput: ``weights-missing`` when the store does not hold the artifact; ``unknown-base`` when nobody knows
            the base model that it names.
        IntegrityFailure: the stored artifact is not what its id says.
    """
    for baseline in cluster.baselines:
        if baseline.name == model:
            return Target(model, unknown_weights(baseline.endpoint), endpoint=baseline.endpoint)
    if artifact is None:
        return Target(BASE, cluster.base_model.digest, cluster.base_model)
    folder = Store(workspace.store(cluster.store)).get(artifact)
    if folder is None:
        raise InvalidInput(
            "weights-missing",
            f"The weights of {model} are not in the artifact store",
            "Fetch the artifact into the store, or run on the machine that trained it.",
            artifact=artifact,
        )
    verify_artifact(folder, artifact)
    export = export_of(folder)
    source = base_source(workspace, cluster, model, export.base_digest if export else base_of(folder), at)
    if export:
        return Target(model, artifact, source, artifact, alone=folder)
    return Target(model, artifact, source, artifact, folder)


@dataclass(frozen=True)
class EvalSpec:
    """The question that the target is asked: cluster, eval set, tag and sections."""

    cluster: Cluster
    governed: GovernedSet
    eval_tree: str
    """Git tree hash of the eval set, or ``uncommitted``."""
    tag: str
    sections: tuple[Section, ...] = SECTIONS
    quick: bool = False
    only: tuple[str, ...] | None = None
    """Ids of the scenarios to ask, when not all."""


def evaluate(
    workspace: Workspace,
    spec: EvalSpec,
    target: Target,
    incumbent: RunResult | None,
    threads: int | None = None,
) -> RunResult:
    """Run the eval, or adopt the run that already answered this question for these weights.

    Answers are kept; what follows from them (rule, headline, cost, tree of the set) is worked out anew where it
    depends on anything that has changed since, and always for an endpoint, whose settings no digest of weights covers.

    ``incumbent`` is the run that regressions are counted against; ``threads`` the engine's CPU threads, all cores when
    not given. Interrupted, the same call goes on where it stopped.

    Raises:
        InvalidInput: ``tag-taken`` when the tag holds another request, such as one to another engine, or when the
            incumbent's answers were read otherwise than today.
        InfrastructureFailure: the engine failed or the run is incomplete.
    """
    folder = RunFolder(workspace.private, spec.cluster.cluster, spec.tag)
    finished = folder.result()
    if incumbent is not None:
        _require_read_as_today(workspace, incumbent)
    answered = finished and read_as_today(folder) and _answers(finished, spec, target, incumbent)
    if finished and answered and _still_holds(finished, spec, folder):
        ledger_of(workspace).record_run(finished)
        return finished.model_copy(update={"executed": 0, "because": {}, "judged": 0})
    question, ledger = spec.governed.question(), ledger_of(workspace)
    with contextlib.ExitStack() as closing:
        substrate = open_substrate(workspace, spec.cluster, target, threads)
        closing.callback(substrate.close)
        judge = open_judge(workspace, spec.governed)
        if judge is not None:
            closing.callback(judge.close)
        ledger.begin_attempt(question, target.weights, spec.tag)
        if "held_out" in spec.sections:
            ledger.consult(spec.governed.held_out_digest, question, target.weights)
        result = _execute(workspace, spec, target, incumbent, folder, substrate, judge)
    ledger.record_run(result)
    return result


def read_as_today(folder: RunFolder) -> bool:
    """Whether the verdicts of a run come from the way in which this toolkit reads answers."""
    request = folder.request()
    return request is not None and request.reading == READING


def _require_read_as_today(workspace: Workspace, run: RunResult) -> None:
    if not read_as_today(RunFolder(workspace.private, run.cluster, run.tag)):
        raise InvalidInput(
            "tag-taken",
            f"The answers of run {run.tag} were read by another version of the rubric's checks.",
            "Evaluate that model again under a new tag (kept answers are only read anew), then name that run.",
            tag=run.tag,
            differing=["reading"],
        )


def _answers(run: RunResult, spec: EvalSpec, target: Target, incumbent: RunResult | None) -> bool:
    expected = (
        spec.governed.question(),
        target.weights,
        target.base,
        engine_of(spec.cluster, target),
        spec.sections,
        spec.quick,
        spec.only,
    )
    engine = run.engine.model_copy(update={"chat": run.engine.chat or Chat()})
    answered = (run.question, run.weights, run.base, engine, run.sections, run.quick, run.only)
    comparable = target.endpoint is None and run.incumbent == (incumbent.run_id if incumbent else None)
    return comparable and expected == answered


def _still_holds(run: RunResult, spec: EvalSpec, folder: RunFolder) -> bool:
    """Whether everything that the run says beside its answers would be said today."""
    today = (
        effective_rule(spec.governed, spec.cluster),
        spec.governed.evalset.version,
        spec.eval_tree,
        cost(folder.observations(), spec.cluster.prices, None),
    )
    return today == (run.rule, run.eval_set_version, run.eval_tree, run.cost)


def _execute(
    workspace: Workspace,
    spec: EvalSpec,
    target: Target,
    incumbent: RunResult | None,
    folder: RunFolder,
    substrate: Substrate,
    judge: RememberingJudge | None,
) -> RunResult:
    started, clock = datetime.now(UTC), time.monotonic()
    request = run_request(
        spec.governed,
        substrate.facts,
        cluster=spec.cluster.cluster,
        model=target.name,
        weights=target.weights,
        base=target.base,
        sections=spec.sections,
        quick=spec.quick,
        only=spec.only,
    )

    def progress(done: int, total: int) -> None:
        workspace.notify(Progress("eval", f"{target.name} answers", done, total))

    with folder.opened(request):
        executed = run_eval(
            spec.governed,
            substrate,
            folder,
            judge=judge,
            cache=Cache(workspace.private / "cache"),
            last=lambda: _last_run(workspace, spec, target),
            progress=progress,
            wait=waiting_for_doors(workspace, spec.cluster, target),
        )
        measured = (
            measure_agreement(judge, spec.governed, lambda name: folder.hold_served("judge", name)) if judge else None
        )
        rule = effective_rule(spec.governed, spec.cluster)
        rows = verdict_rows(folder.observations())
        against = verdict_rows(read_observations(workspace, incumbent)) if incumbent else None
        computed = headline(rows, against, rule, measured)
        question = spec.governed.question()
        tokens = target.endpoint.prices if target.endpoint else None
        result = RunResult(
            run_id=run_id(question, target.weights, target.base, substrate.facts, folder.observations()),
            tag=spec.tag,
            cluster=spec.cluster.cluster,
            model=target.name,
            weights=target.weights,
            base=target.base,
            question=question,
            rubric=spec.governed.rubric_digest,
            eval_set=spec.cluster.eval_set,
            eval_set_version=spec.governed.evalset.version,
            eval_tree=spec.eval_tree,
            engine=substrate.facts,
            rule=rule,
            headline=of_a_part(computed) if spec.quick or spec.only is not None else computed,
            before=_judged_before(folder, rule),
            judge=measured,
            incumbent=incumbent.run_id if incumbent else None,
            cost=cost(folder.observations(), spec.cluster.prices, tokens),
            sections=spec.sections,
            quick=spec.quick,
            only=spec.only,
            attempts=max(1, ledger_of(workspace).attempts(question, target.weights).begun),
            held_out_consulted=ledger_of(workspace).consultations(spec.governed.held_out_digest),
            scenarios=len({(row.section, row.id) for row in rows if row.section != "robustness"}),
            completions=len(rows),
            executed=executed.because.total(),
            because=dict(executed.because),
            judged=judge.asked if judge else 0,
            started_at=started,
            duration_seconds=time.monotonic() - clock,
        )
        folder.write_result(result)
    return result


def _judged_before(folder: RunFolder, rule: GateRule) -> tuple[Judged, ...]:
    """What the folder's result says of rules other than this one: a new rule takes no earlier verdict's place."""
    former = folder.result()
    return tuple(judged for judged in former.by_rule if judged.rule != rule) if former else ()


def _last_run(workspace: Workspace, spec: EvalSpec, target: Target) -> PriorRun | None:
    """The newest run of the same model, of the same weights where there is one; for the reasons of a bill only."""
    runs = [
        run
        for run in ledger_of(workspace).runs(cluster=spec.cluster.cluster)
        if run.model == target.name and run.tag != spec.tag
    ]
    for run in sorted(runs, key=lambda item: (item.weights == target.weights, item.started_at), reverse=True):
        folder = RunFolder(workspace.private, run.cluster, run.tag)
        try:
            request = folder.request()
            if request is not None:
                return prior_run(request, folder.observations())
        except IntegrityFailure:
            continue
    return None


def read_observations(workspace: Workspace, run: RunResult) -> Iterator[Observation]:
    """Every observation of a finished run, one at a time, after all of them were found to be those of the run.

    Raises:
        IntegrityFailure: ``run-damaged`` when they no longer give the run's id.
    """
    folder = RunFolder(workspace.private, run.cluster, run.tag)
    if run_id(run.question, run.weights, run.base, run.engine, folder.observations()) != run.run_id:
        raise IntegrityFailure(
            "run-damaged",
            f"The observations of run {run.tag} are not those it was recorded with",
            "Run the eval again.",
            tag=run.tag,
        )
    return folder.observations()
