"""Verdicts and answers that are known without asking a model: from evidence, from earlier runs, from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelsmith.evaluation.cache import Cache, CompletionKeys, KeptCompletion
from modelsmith.evaluation.change.carry import Carried, carried_agreement, carry
from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.results import RunFolder
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.governance.states import SpecialistHistory
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.engines import Target, open_judge
from modelsmith.loop.evals import read_as_today, read_observations
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import MountedTree, Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import EngineFacts, JudgeAgreement, VerdictRow
from modelsmith.schema.source import Chat


@dataclass(frozen=True)
class PriorVerdicts:
    """Verdicts of one model on one version of the eval set."""

    governed: GovernedSet
    weights: str
    base: str | None
    """Base model beneath the weights, where they are an adapter."""
    engine: EngineFacts
    rows: tuple[VerdictRow, ...]
    judge: JudgeAgreement | None
    """How well the judge of these verdicts agrees with people."""

    def judge_of(self, new: GovernedSet) -> JudgeAgreement | None:
        """The agreement under the new version, where the judge was asked about all that people label there."""
        return carried_agreement(self.governed, new, self.judge)


@dataclass(frozen=True)
class ClusterAtRevision:
    """A cluster and its eval set at a revision."""

    cluster: Cluster
    governed: GovernedSet


def accepted(main: GovernedState, cluster: str) -> Iterator[tuple[SpecialistHistory, Evidence]]:
    """Each specialist of the cluster that was accepted on evidence and is not deprecated, by id."""
    for history in main.histories.of_cluster(cluster):
        if history.state != "deprecated" and any(record.event == "eval-accepted" for record in history.records):
            yield history, evidence_of(main, history)


def evaluated_on(workspace: Workspace, evidence: Evidence) -> GovernedSet:
    """The eval set as it was when the evidence was made.

    Raises:
        InvalidInput: ``unknown-tree`` when this clone does not have it.
    """
    try:
        tree = MountedTree(Revision(workspace.git, evidence.eval_tree), f"evals/{evidence.eval_set}")
        governed = load_eval_set(tree, evidence.eval_set)
    except InvalidInput:
        governed = None
    if governed is None or governed.question() != evidence.question:
        raise InvalidInput(
            "unknown-tree",
            f"The eval set that {evidence.specialist} was evaluated on is not in this clone.",
            "Fetch the whole history: `git fetch --unshallow`.",
            specialist=evidence.specialist,
        )
    return governed


def set_at(workspace: Workspace, revision: str, name: str) -> ClusterAtRevision | None:
    """The cluster and the eval set that it had at a revision; None when the revision knows no such cluster or set.

    Raises:
        InvalidInput: ``bad-revision``, or the files there are not well formed.
    """
    files = workspace.revision(revision)
    try:
        cluster = load_cluster(files, name)
        return ClusterAtRevision(cluster, load_eval_set(files, cluster.eval_set))
    except InvalidInput as error:
        if error.code not in ("unknown-cluster", "unknown-set"):
            raise
        return None


def find_prior_verdicts(
    workspace: Workspace, main: GovernedState, cluster: str, governed: GovernedSet, target: Target
) -> PriorVerdicts | None:
    """What the target answered: to this very version in a complete run of this clone, or in evidence on main.

    Weights, the base beneath them and how the model is spoken to are the target's. Evidence that speaks of another
    version of the set is used where this clone has that version.
    """
    question, weights, base = governed.question(), target.weights, target.base
    for run in reversed(ledger_of(workspace).runs(cluster=cluster)):
        complete = not run.quick and run.only is None and set(run.sections) == set(SECTIONS)
        same = (run.question, run.weights, run.base) == (question, weights, base) and _spoken(run.engine, target)
        if complete and same and read_as_today(RunFolder(workspace.private, run.cluster, run.tag)):
            try:
                rows = verdict_rows(read_observations(workspace, run))
                return PriorVerdicts(governed, weights, base, run.engine, rows, run.judge)
            except IntegrityFailure:
                continue
    candidates = [
        (evidence, model)
        for _, evidence in accepted(main, cluster)
        for model in (evidence.candidate, evidence.incumbent, *evidence.baselines)
        if (model.weights, model.base) == (weights, base) and _spoken(model.engine or evidence.engine, target)
    ]
    for evidence, model in sorted(candidates, key=lambda pair: pair[0].question != question):
        try:
            on = governed if evidence.question == question else evaluated_on(workspace, evidence)
        except InvalidInput:
            continue
        return PriorVerdicts(on, weights, base, model.engine or evidence.engine, model.rows, evidence.judge)
    return None


def _spoken(engine: EngineFacts, target: Target) -> bool:
    """Whether these are weights that are known, spoken to as the target is."""
    return engine.weights == "pinned" and (engine.chat or Chat()) == target.chat


def carried(workspace: Workspace, prior: PriorVerdicts, new: GovernedSet) -> Carried:
    """The known verdicts under a new version of the set; answers in the cache are scored, no model is asked."""
    cache = Cache(workspace.private / "cache")
    keys = CompletionKeys(prior.weights, prior.base, prior.engine, new.evalset.prompt.system, new.evalset.sampling)
    addresses = {sample.key: keys.key(sample.prompt(), sample.repeat) for sample in plan(new, SECTIONS, quick=False)}
    completions = cache.find(KeptCompletion, set(addresses.values()))
    answers = {key: completions[address] for key, address in addresses.items() if address in completions}
    named = new.evalset.judge
    judge = open_judge(workspace, new) if named and named.base_model else None
    return carry(prior.governed, new, prior.rows, answers, judge.known if judge else lambda _: None)
