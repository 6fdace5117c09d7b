"""The eval that CI runs on a change: ask what is not known, and judge the whole set by known verdicts for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelsmith.evaluation.change.set_change import changed_ids, set_change
from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.prompts import generation_digest, plan
from modelsmith.evaluation.results import observation_key
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.loop.bases import base_source
from modelsmith.loop.engines import Target
from modelsmith.loop.evals import BASE, EvalSpec, evaluate, read_observations, target_of
from modelsmith.loop.prior_verdicts import ClusterAtRevision, PriorVerdicts, accepted, carried, find_prior_verdicts
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import digest
from modelsmith.schema.change import SetChange
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evidence import RunEvidence
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Headline, JudgeAgreement, RunResult, VerdictRow

_TAG_LENGTH = 64


@dataclass(frozen=True)
class ChangeEval:
    """Result of an eval of a change: the run, and the headline of the whole set."""

    change: SetChange
    run: RunResult | None
    """The run of what was asked; None when nothing had to be."""
    headline: Headline | None
    """Headline of the whole set; None when the rest has no known verdicts."""
    sentence: str
    """Why, in words."""


def evaluate_change(
    workspace: Workspace,
    main: GovernedState,
    then: ClusterAtRevision | None,
    spec: EvalSpec,
    target: Target,
    threads: int | None,
) -> ChangeEval:
    """Ask the scenarios that changed since `then`, and the others whose verdicts are not known, and judge the whole.

    Verdicts are known from a complete run of this clone or from the evidence on main; what changed since that evidence
    was made is thus asked too. Without a set `then` everything is new, and all is asked.

    Raises:
        ModelsmithError: as `evaluate`.
    """
    old, gates = (then.governed, (then.cluster.gate, spec.cluster.gate)) if then else (None, None)
    change = set_change(old, spec.governed, gates)
    models = _Models(workspace, main, old, spec, change, threads)
    mine = models.answers(target, "")
    if mine.rows is None:
        return ChangeEval(change, mine.run, None, mine.sentence)
    against = _against(main, spec.cluster.cluster, target)
    theirs = None
    if against is not None:
        try:
            theirs = models.answers(_incumbent(workspace, spec.cluster, against), "-incumbent").rows
        except InvalidInput as error:
            if error.code not in ("weights-missing", "unknown-base"):
                raise
        if theirs is None:
            why = f"not all answers of {against.model} are known, so the change cannot be judged against it"
            return ChangeEval(change, mine.run, None, f"{mine.sentence}; {why}")
    figures = headline(mine.rows, theirs, effective_rule(spec.governed, spec.cluster), mine.judge)
    return ChangeEval(change, mine.run, figures, mine.sentence)


def run_tag(tag: str) -> str:
    """The tag, or a shorter one of its own where it is too long to name a run."""
    return tag if len(tag) <= _TAG_LENGTH else f"{tag[: _TAG_LENGTH - 13]}-{digest(tag)[7:19]}"


@dataclass(frozen=True)
class _Answers:
    """One model's verdicts on the new version of the set."""

    run: RunResult | None
    """The run of what was asked."""
    rows: tuple[VerdictRow, ...] | None
    """Verdicts on the whole set; None when only the changed scenarios were asked."""
    judge: JudgeAgreement | None
    sentence: str


@dataclass(frozen=True)
class _Models:
    """One change, and what it takes to hold models against it."""

    workspace: Workspace
    main: GovernedState
    old: GovernedSet | None
    spec: EvalSpec
    change: SetChange
    threads: int | None

    def answers(self, target: Target, suffix: str) -> _Answers:
        """Ask the target what is not known of it; the suffix tells its runs from another model's.

        Raises:
            InvalidInput: ``weights-missing`` when something has to be asked of a specialist that is not in the store.
        """
        new, every = self.spec.governed, set(self.spec.governed.digests)
        changed = set(changed_ids(self.change))
        why = self._why_all()
        prior = self._prior(target)
        if prior is not None:
            carry = carried(self.workspace, prior, new)
            unknown = {sample.scenario.id for sample in carry.unknown}
        else:
            carry, unknown = None, every if why else set[str]()
        ids = changed | unknown
        run = self._ask(target, suffix, None if ids == every else tuple(sorted(ids))) if ids else None
        fresh = verdict_rows(read_observations(self.workspace, run)) if run else ()
        if run and ids == every:
            return _Answers(run, fresh, run.judge, f"{why or 'every verdict was unknown'}, so all was asked")
        if prior is None or carry is None:
            return _Answers(run, None, None, f"no verdicts of {target.name} on the unchanged scenarios are known")
        rows = {observation_key(row): row for row in (*carry.rows, *fresh)}
        sentence = f"{len(changed)} of {len(every)} scenarios changed"
        if beside := ids - changed:
            sentence += f", and {len(beside)} more had no known verdict"
        sentence += "; the others' verdicts are known" if ids else ", and every verdict is known"
        return _Answers(run, tuple(rows.values()), run.judge if run else prior.judge_of(new), sentence)

    def _prior(self, target: Target) -> PriorVerdicts | None:
        if self.old is None:
            return None
        return find_prior_verdicts(self.workspace, self.main, self.spec.cluster.cluster, self.old, target)

    def _why_all(self) -> str:
        """Why a model must answer every scenario; empty when the changed ones suffice."""
        old, new = self.old, self.spec.governed
        if old is None:
            return "the eval set is new"
        same_rules = old.rubric_digest == new.rubric_digest and old.evalset.judge == new.evalset.judge
        same = same_rules and generation_digest(old) == generation_digest(new)
        return "" if same else "rubric, judge, prompt or sampling changed"

    def _ask(self, target: Target, suffix: str, only: tuple[str, ...] | None) -> RunResult:
        spec = replace(self.spec, tag=run_tag(self.spec.tag + suffix))
        if only is not None:
            changed_sections = {sample.section for sample in plan(spec.governed, SECTIONS, quick=False, only=only)}
            part = f"{self.spec.tag}-changed-{digest(list(only))[7:13]}{suffix}"
            sections = tuple(section for section in SECTIONS if section in changed_sections)
            spec = replace(spec, only=only, sections=sections, tag=run_tag(part))
        return evaluate(self.workspace, spec, self._present(target), None, self.threads)

    def _present(self, target: Target) -> Target:
        """The target with its weights."""
        if target.name == BASE or target.adapter or target.alone or target.endpoint:
            return target
        return target_of(self.workspace, self.spec.cluster, target.name, target.artifact)


def _against(main: GovernedState, cluster: str, target: Target) -> RunEvidence | None:
    """The run of the model that the target was accepted against; None when there is none."""
    matching = (evidence for _, evidence in accepted(main, cluster) if evidence.candidate.weights == target.weights)
    return next((evidence.incumbent for evidence in matching), None)


def _incumbent(workspace: Workspace, cluster: Cluster, run: RunEvidence) -> Target:
    """The model of that run, wherever its weights are.

    Raises:
        InvalidInput: ``unknown-base``; ``weights-missing`` when its base model cannot be told without its weights.
    """
    if run.model != BASE and run.base is None:
        return target_of(workspace, cluster, run.model, run.weights)
    source = base_source(workspace, cluster, run.model, run.base or run.weights)
    return Target(run.model, run.weights, source, None if run.model == BASE else run.weights)
