"""Evaluating a model of a cluster: which weights, which tag, and the run's result in folder and ledger."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelsmith.artifacts.seal import check
from modelsmith.artifacts.store import Store
from modelsmith.evaluation.engine import cost, run_eval, run_id, run_request
from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.results import RunFolder
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.evidence.bundle import verdict_rows
from modelsmith.ledger.ledger import Ledger
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.load import GovernedSet
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Section
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.progress import Progress
from modelsmith.schema.run import EngineFacts, Observation, RunResult

BASE = "base"


def ledger_of(workspace: Workspace) -> Ledger:
    """The clone's ledger."""
    return Ledger(workspace.iterate / "ledger.db")


@dataclass(frozen=True)
class Subject:
    """The model to evaluate."""

    name: str
    """``base`` or a specialist id."""
    weights: str
    """Base model digest, or artifact id."""
    adapter: Path | None
    """Sealed artifact folder with the LoRA adapter."""


def subject_of(workspace: Workspace, cluster: Cluster, model: str, artifact: str | None) -> Subject:
    """The base model, or a specialist whose sealed artifact is in the store and intact.

    Raises:
        InvalidInput: ``weights-missing`` when the store does not hold the artifact.
        IntegrityFailure: the stored artifact is not what its id says.
    """
    if artifact is None:
        return Subject(BASE, cluster.base_model.digest, None)
    folder = Store(workspace.store(cluster.store)).get(artifact)
    if folder is None:
        raise InvalidInput(
            "weights-missing",
            f"The weights of {model} are not in the artifact store",
            "Fetch the artifact into the store, or run on the machine that trained it.",
            artifact=artifact,
        )
    check(folder, artifact)
    return Subject(model, artifact, folder)


@dataclass(frozen=True)
class Setting:
    """What is asked of the subject."""

    cluster: Cluster
    governed: GovernedSet
    eval_tree: str
    """Git tree hash of the eval set, or ``uncommitted``."""
    tag: str
    sections: tuple[Section, ...] = SECTIONS
    quick: bool = False


def evaluate(
    workspace: Workspace,
    setting: Setting,
    subject: Subject,
    incumbent: RunResult | None,
    threads: int | None = None,
) -> RunResult:
    """Run the eval, or adopt the run that already answered this question for these weights.

    ``incumbent`` is the run that regressions are counted against; ``threads`` the engine's CPU threads, all cores when
    not given. Interrupted, the same call goes on where it stopped.

    Raises:
        InvalidInput: ``tag-taken`` when the tag holds another request.
        InfrastructureFailure: the engine failed or the run is incomplete.
    """
    folder = RunFolder(workspace.iterate, setting.cluster.cluster, setting.tag)
    finished = folder.result()
    if finished and _answers(finished, setting, subject, incumbent):
        ledger_of(workspace).record_run(finished)
        return finished
    ledger_of(workspace).begin_attempt(setting.governed.question(), subject.weights, setting.tag)
    return _execute(workspace, setting, subject, incumbent, folder, threads)


def _answers(run: RunResult, setting: Setting, subject: Subject, incumbent: RunResult | None) -> bool:
    asked = (setting.governed.question(), subject.weights, setting.sections, setting.quick)
    answered = (run.question, run.weights, run.sections, run.quick)
    return asked == answered and run.incumbent == (incumbent.run_id if incumbent else None)


def _execute(
    workspace: Workspace,
    setting: Setting,
    subject: Subject,
    incumbent: RunResult | None,
    folder: RunFolder,
    threads: int | None,
) -> RunResult:
    from modelsmith.substrates.base_models import resolve
    from modelsmith.substrates.local import TransformersSubstrate

    started, clock = datetime.now(UTC), time.monotonic()
    workspace.notify(Progress("eval", f"loading {subject.name} ({setting.cluster.base_model.name})"))
    model = resolve(setting.cluster.base_model, workspace.root, workspace.models)
    substrate = TransformersSubstrate(model.folder, subject.adapter, threads)
    try:
        request = run_request(
            setting.governed,
            substrate.facts,
            cluster=setting.cluster.cluster,
            model=subject.name,
            weights=subject.weights,
            sections=setting.sections,
            quick=setting.quick,
        )

        def progress(done: int, total: int) -> None:
            workspace.notify(Progress("eval", f"{subject.name} answers", done, total))

        with folder.opened(request):
            observations = run_eval(
                setting.governed,
                substrate,
                sections=setting.sections,
                quick=setting.quick,
                run=folder,
                earlier=_earlier(workspace, setting, subject),
                progress=progress,
            )
            result = _result(workspace, setting, subject, incumbent, observations, substrate.facts)
            result = result.model_copy(
                update={
                    "executed": folder.executed,
                    "started_at": started,
                    "duration_seconds": time.monotonic() - clock,
                }
            )
            folder.write_result(result)
    finally:
        substrate.close()
    ledger_of(workspace).record_run(result)
    return result


def _result(
    workspace: Workspace,
    setting: Setting,
    subject: Subject,
    incumbent: RunResult | None,
    observations: Sequence[Observation],
    engine: EngineFacts,
) -> RunResult:
    rule = effective_rule(setting.governed, setting.cluster)
    rows = verdict_rows(observations)
    against = verdict_rows(read_observations(workspace, incumbent)) if incumbent else None
    question = setting.governed.question()
    return RunResult(
        run_id=run_id(question, subject.weights, engine, observations),
        tag=setting.tag,
        cluster=setting.cluster.cluster,
        model=subject.name,
        weights=subject.weights,
        question=question,
        rubric=setting.governed.rubric_digest,
        eval_set=setting.cluster.eval_set,
        eval_set_version=setting.governed.evalset.version,
        eval_tree=setting.eval_tree,
        engine=engine,
        rule=rule,
        headline=headline(rows, against, rule),
        incumbent=incumbent.run_id if incumbent else None,
        cost=cost(observations, setting.cluster.prices),
        sections=setting.sections,
        quick=setting.quick,
        attempts=max(1, ledger_of(workspace).attempts(question, subject.weights).begun),
        scenarios=len({(row.section, row.id) for row in rows if row.section != "robustness"}),
        executed=len(rows),
        started_at=datetime.now(UTC),
        duration_seconds=0.0,
    )


def _earlier(workspace: Workspace, setting: Setting, subject: Subject) -> list[RunFolder]:
    """Folders of earlier runs of these weights, oldest first: the first complete attempt at a question binds."""
    runs = ledger_of(workspace).runs(cluster=setting.cluster.cluster)
    return [
        RunFolder(workspace.iterate, run.cluster, run.tag)
        for run in runs
        if run.weights == subject.weights and run.tag != setting.tag
    ]


def read_observations(workspace: Workspace, run: RunResult) -> list[Observation]:
    """Every observation of a finished run, from its folder.

    Raises:
        IntegrityFailure: ``run-damaged`` when they no longer give the run's id.
    """
    observations = list(RunFolder(workspace.iterate, run.cluster, run.tag).observations().values())
    if run_id(run.question, run.weights, run.engine, observations) != run.run_id:
        raise IntegrityFailure(
            "run-damaged",
            f"The observations of run {run.tag} are not those it was recorded with",
            "Run the eval again.",
        )
    return observations
