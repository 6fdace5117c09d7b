"""What a change of the eval set does to the specialists that were promoted on it; no model is asked."""

from __future__ import annotations

from modelsmith.evaluation.change.effects import flips, point_flips
from modelsmith.evaluation.headline import headline
from modelsmith.governance.states import SpecialistHistory
from modelsmith.loop.prior_verdicts import PriorVerdicts, accepted, carried, evaluated_on
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.change import Effect
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.comparison import PointFlip, ScenarioFlip
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Headline


def effects(
    workspace: Workspace, main: GovernedState, cluster: Cluster, new: GovernedSet, since: str
) -> tuple[Effect, ...]:
    """What the new version of the set does to each accepted specialist of the cluster, by id; it changed `since`."""
    return tuple(
        _effect(workspace, history, evidence, cluster, new, since)
        for history, evidence in accepted(main, cluster.cluster)
    )


def _effect(
    workspace: Workspace, history: SpecialistHistory, evidence: Evidence, cluster: Cluster, new: GovernedSet, since: str
) -> Effect:
    before = evidence.candidate.headline
    try:
        old = evaluated_on(workspace, evidence)
    except InvalidInput as error:
        return _effect_on(history, before, None, (), (), 0, f"cannot be told: {error.message} {error.mend}")
    prior = [
        PriorVerdicts(old, model.weights, model.base, model.engine or evidence.engine, model.rows, evidence.judge)
        for model in (evidence.candidate, evidence.incumbent)
    ]
    candidate, incumbent = (carried(workspace, verdicts, new) for verdicts in prior)
    rule = effective_rule(new, cluster)
    turned = flips(evidence.candidate.rows, evidence.rule, candidate.rows, rule)
    points = point_flips(evidence.candidate.rows, candidate.rows)
    unknown = len(candidate.unknown) + len(incumbent.unknown)
    if unknown:
        answers = (
            f"answers of {history.specialist} ({len(candidate.unknown)}) and its incumbent ({len(incumbent.unknown)})"
        )
        command = f"modelsmith eval --cluster {history.cluster} --model {history.specialist} --changed-since {since}"
        sentence = f"cannot be told without a model: {answers} are not known; `{command}` asks for them"
        return _effect_on(history, before, None, turned, points, unknown, sentence)
    judge = prior[0].judge_of(new)
    after = headline(candidate.rows, incumbent.rows, rule, judge)
    effect = _effect_on(history, before, after, turned, points, 0, _sentence(before, after))
    kappa = (evidence.judge.kappa if evidence.judge else None, judge.kappa if judge else None)
    return effect.model_copy(update={"kappa": kappa})


def _effect_on(
    history: SpecialistHistory,
    before: Headline,
    after: Headline | None,
    turned: tuple[ScenarioFlip, ...],
    points: tuple[PointFlip, ...],
    unknown: int,
    sentence: str,
) -> Effect:
    return Effect(
        cluster=history.cluster,
        specialist=history.specialist,
        state=history.state,
        before=before.verdict,
        after=after.verdict if after else None,
        composite=(before.composite, after.composite if after else None),
        held_out=(before.held_out, after.held_out if after else None),
        flips=turned,
        point_flips=points,
        unknown=unknown,
        sentence=sentence,
    )


def _sentence(before: Headline, after: Headline) -> str:
    if before.verdict == after.verdict:
        return f"stays {after.verdict}"
    failing = [check.sentence for check in after.checks if check.outcome != "PASS"]
    if after.verdict == "PASS":
        return f"would clear its gate: {before.verdict} becomes PASS"
    return f"would no longer clear its gate: {before.verdict} becomes {after.verdict}, {'; '.join(failing)}"
