"""Verdicts carried from one version of an eval set to the next: what holds, what is scored again, what is unknown.

A declared point is decided from the completion, where that is at hand, as answers are read today. Otherwise a verdict
still holds when prompt, sampling and scenario are what they were and the point's check is. Nothing here asks a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from modelsmith.evaluation.cache import KeptCompletion
from modelsmith.evaluation.judges.agreement import agreement
from modelsmith.evaluation.judges.port import JudgeQuestion
from modelsmith.evaluation.prompts import Sample, generation_digest, plan
from modelsmith.evaluation.results import observation_key
from modelsmith.evaluation.scoring import judged_points
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.points.check import grade_point
from modelsmith.schema.governed_set import GovernedSet, label_digest
from modelsmith.schema.labels import Label
from modelsmith.schema.rubric import JudgeCheck, RubricPoint
from modelsmith.schema.run import JudgeAgreement, LabelVerdict, VerdictRow
from modelsmith.schema.scenario import Criterion, Scenario
from modelsmith.schema.source import JudgeModel

JudgedBefore = Callable[[JudgeQuestion], bool | None]
"""A judge's verdict that is known, or None."""


@dataclass(frozen=True)
class Carried:
    """Verdicts under the new version."""

    rows: tuple[VerdictRow, ...]
    unknown: tuple[Sample, ...]
    """Completions of which at least one verdict is not known."""


def carry(
    old: GovernedSet,
    new: GovernedSet,
    rows: Sequence[VerdictRow],
    answers: Mapping[str, KeptCompletion],
    judged: JudgedBefore = lambda _: None,
) -> Carried:
    """Verdicts of one model on the new version.

    Args:
        old: The version that `rows` speak of.
        new: The version to carry them to.
        rows: The model's verdicts.
        answers: Completions that are at hand, by the key of the new version's prompt.
        judged: Looks up what a judge said.
    """
    holds = _unchanged_points(old, new) if generation_digest(old) == generation_digest(new) else frozenset()
    worded = _judged_wordings(old)
    by_key = {observation_key(row): row for row in rows}
    carried: list[VerdictRow] = []
    unknown: list[Sample] = []
    for sample in plan(new, SECTIONS, quick=False):
        before = by_key.get(sample.key)
        if before is not None and before.scenario != new.digests[sample.scenario.id]:
            before = None
        still_held = _still_decided(before, sample, holds, worded) if before else {}
        answer = answers.get(sample.key)
        points = _points(new, sample, still_held, answer, judged)
        if None in points.values():
            unknown.append(sample)
            continue
        decided = {point: bool(passed) for point, passed in points.items()}
        cut_off = answer.finish == "length" if answer else before is not None and before.cut_off
        carried.append(sample.row(new.digests[sample.scenario.id], decided, cut_off))
    return Carried(tuple(carried), tuple(unknown))


def _unchanged_points(old: GovernedSet, new: GovernedSet) -> frozenset[str]:
    before = {point.id: _decided_by(point, old) for point in old.rubric.points}
    return frozenset(point.id for point in new.rubric.points if before.get(point.id) == _decided_by(point, new))


def _decided_by(point: RubricPoint, governed: GovernedSet) -> object:
    """What a verdict on the point depends on, besides scenario and answer; a judge also reads the point's words."""
    if isinstance(point.check, JudgeCheck):
        return point.check, point.text, _judge_alone(governed.evalset.judge)
    return point.check


def _judge_alone(judge: JudgeModel | None) -> JudgeModel | None:
    """The judge, whatever it is measured by."""
    return judge.model_copy(update={"labels": None, "min_kappa": None}) if judge else None


def carried_agreement(old: GovernedSet, new: GovernedSet, former: JudgeAgreement | None) -> JudgeAgreement | None:
    """The judge's agreement with people under the new version; None where it was not asked about each answer of it.

    What people say may have changed: the judge's own verdict on the same answer holds.
    """
    judge = new.evalset.judge
    if former is None or judge is None:
        return None
    holds, worded, words = _unchanged_points(old, new), _judged_wordings(old), _judged_wordings(new)
    by_label = {verdict.label: verdict.judge for verdict in former.verdicts}
    verdicts = []
    for label in new.labels:
        other: Label = label.model_copy(update={"verdict": "fail" if label.verdict == "pass" else "pass"})
        key = next((choice for choice in (label_digest(label), label_digest(other)) if choice in by_label), None)
        same = label.scenario in old.digests and old.digests[label.scenario] == new.digests[label.scenario]
        same = same and worded[label.scenario].get(label.point) == words[label.scenario].get(label.point)
        if key is None or not same or label.point not in holds:
            return None
        verdicts.append(
            LabelVerdict(
                label=label_digest(label), point=label.point, person=label.verdict == "pass", judge=by_label[key]
            )
        )
    return agreement(judge.name, former.identity, verdicts, new.evalset.decision.confidence, judge.min_kappa)


def _judged_wordings(governed: GovernedSet) -> dict[str, dict[str, Criterion | None]]:
    """By scenario and judged point: the words by which the judge tells right from wrong there."""
    judged = [point.id for point in judged_points(governed.rubric)]
    scenarios = (*governed.core, *governed.micro, *governed.held_out)
    return {scenario.id: {point: _criterion(scenario, point) for point in judged} for scenario in scenarios}


def _criterion(scenario: Scenario, point: str) -> Criterion | None:
    return next((criterion for criterion in scenario.criteria if criterion.point == point), None)


def _still_decided(
    before: VerdictRow, sample: Sample, holds: frozenset[str], worded: Mapping[str, Mapping[str, Criterion | None]]
) -> dict[str, bool]:
    """Verdicts of the row that still hold for this prompt."""
    then = worded.get(sample.scenario.id, {})
    return {
        point: passed
        for point, passed in before.points.items()
        if point in holds and (point not in then or then[point] == _criterion(sample.scenario, point))
    }


def _points(
    governed: GovernedSet,
    sample: Sample,
    still_held: Mapping[str, bool],
    answer: KeptCompletion | None,
    judged: JudgedBefore,
) -> dict[str, bool | None]:
    verdicts: dict[str, bool | None] = {}
    for point in governed.rubric.points:
        by_judge = isinstance(point.check, JudgeCheck)
        if answer is not None and not by_judge:
            verdicts[point.id] = grade_point(
                point, answer.text, sample.scenario.reference, cut_off=answer.finish == "length"
            ).passed
        elif point.id in still_held:
            verdicts[point.id] = still_held[point.id]
        elif answer is not None:
            verdicts[point.id] = judged(JudgeQuestion(f"{sample.key}#{point.id}", point, sample.scenario, answer.text))
        else:
            verdicts[point.id] = None
    return verdicts
