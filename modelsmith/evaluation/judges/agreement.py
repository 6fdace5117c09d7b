"""How well a judge agrees with people: its verdicts on answers that people labelled, and Cohen's kappa of the two.

`agreement` is pure: whoever verifies evidence calls it again on the recorded verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from modelsmith.evaluation.judges.port import Judge, JudgeQuestion
from modelsmith.evaluation.scoring import judged_points
from modelsmith.evaluation.statistics import NEGLIGIBLE, Bounds, two_sided, wilson
from modelsmith.evaluation.tally import estimate
from modelsmith.schema.base import Digest, Slug
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet, label_digest, labels_digest
from modelsmith.schema.run import Estimate, JudgeAgreement, LabelVerdict, PointAgreement


def measure_agreement(
    judge: Judge, governed: GovernedSet, on_served: Callable[[str], None] = lambda _name: None
) -> JudgeAgreement:
    """Ask the judge about every labelled answer of the set.

    ``on_served`` gets the name under which a judge without pinned weights answers.

    A reply that is not a verdict is recorded as unclear: asked again, the judge would say the same. What the engine
    could not do is raised.

    Raises:
        InvalidInput: ``no-judge`` when the set names none.
        ModelsmithError: what kept the judge from replying.
    """
    model = governed.evalset.judge
    if model is None:
        raise InvalidInput("no-judge", "The eval set names no judge.", "Add judge: to evalset.yaml.")
    points = {point.id: point for point in judged_points(governed.rubric)}
    scenarios = {scenario.id: scenario for scenario in (*governed.core, *governed.micro, *governed.held_out)}
    labels = {label_digest(label): label for label in governed.labels}
    questions = [
        JudgeQuestion(key, points[label.point], scenarios[label.scenario], label.answer)
        for key, label in labels.items()
    ]
    judged: dict[str, bool | None] = {}
    for verdict in judge.decide(questions) if questions else ():
        if verdict.served is not None and not judge.lasting:
            on_served(verdict.served)
        if verdict.error is not None and verdict.error.code != "judge-unclear":
            label = labels[verdict.key]
            verdict.error.details |= {"scenario": label.scenario, "point": label.point}
            raise verdict.error
        judged[verdict.key] = None if verdict.error is not None else verdict.passed
    if missing := labels.keys() - judged.keys():
        raise InfrastructureFailure(
            "judge-failed",
            f"The judge left {len(missing)} labelled answers without a reply.",
            "Run again.",
            count=len(missing),
        )
    verdicts = [
        LabelVerdict(label=key, point=label.point, person=label.verdict == "pass", judge=judged[key])
        for key, label in labels.items()
    ]
    confidence = governed.evalset.decision.confidence
    return agreement(model.name, judge.identity, verdicts, confidence, model.min_kappa)


def agreement(
    judge: Slug, identity: Digest, verdicts: Sequence[LabelVerdict], confidence: float, min_kappa: float | None
) -> JudgeAgreement:
    """The figures that follow from the verdicts; their order does not matter."""
    ordered = tuple(sorted(verdicts, key=lambda verdict: verdict.label))
    unclear = sum(verdict.judge is None for verdict in ordered)
    kappa = _kappa(ordered, confidence)
    return JudgeAgreement(
        judge=judge,
        identity=identity,
        labels=labels_digest(verdict.label for verdict in ordered),
        agreed=_agreed(ordered),
        unclear=unclear,
        kappa=kappa,
        points=tuple(
            PointAgreement(point=point, agreed=_agreed(inside), total=len(inside), kappa=_kappa(inside, confidence))
            for point in sorted({verdict.point for verdict in ordered})
            for inside in [[verdict for verdict in ordered if verdict.point == point]]
        ),
        met=None if min_kappa is None else not unclear and kappa is not None and kappa.value >= min_kappa,
        verdicts=ordered,
    )


def cohens_kappa(both: int, person: int, judge: int, neither: int, confidence: float) -> Bounds | None:
    """Cohen's kappa of two raters who say pass or fail (Cohen 1960): what they agree beyond chance, as a share.

    ``both`` and ``neither`` count what both pass and both fail, ``person`` and ``judge`` what only one of them passes.
    The interval is kappa plus and minus the normal quantile times the standard error by the delta method (Fleiss, Cohen
    and Everitt 1969, Psychological Bulletin 72, 323-327; the one that statsmodels reports), cut to -1 and 1.

    None where chance alone agrees fully, which is 0/0: nothing was rated, or both raters gave every answer one and the
    same verdict. Nothing is known then, neither that the judge is good nor that it is bad. Where only one rater never
    varies, kappa is 0: such a judge does no better than a stopped clock.

    Where no error can be seen (full agreement, or none), the interval is Wilson's for the share of agreement, with the
    agreement by chance held fixed: ten of ten is not certain.
    """
    n = both + person + judge + neither
    if not n:
        return None
    shares = {(True, True): both / n, (True, False): person / n, (False, True): judge / n, (False, False): neither / n}
    by_person = {True: (both + person) / n, False: (judge + neither) / n}
    by_judge = {True: (both + judge) / n, False: (person + neither) / n}
    observed = (both + neither) / n
    chance = math.fsum(by_person[word] * by_judge[word] for word in (True, False))
    if both == n or neither == n:
        return None
    kappa = (observed - chance) / (1 - chance)
    same = math.fsum(
        shares[word, word] * (1 - (by_person[word] + by_judge[word]) * (1 - kappa)) ** 2 for word in (True, False)
    )
    other = math.fsum(
        shares[answer, not answer] * (by_judge[answer] + by_person[not answer]) ** 2 for answer in (True, False)
    )
    variance = same + (1 - kappa) ** 2 * other - (kappa - chance * (1 - kappa)) ** 2
    error = math.sqrt(max(0.0, variance) / n) / (1 - chance)
    if error > NEGLIGIBLE:
        reach = two_sided(confidence) * error
        return Bounds(kappa, max(-1.0, kappa - reach), min(1.0, kappa + reach))
    agreed = wilson(both + neither, n, confidence)
    low, high = ((bound - chance) / (1 - chance) for bound in (agreed.low, agreed.high))
    return Bounds(kappa, max(-1.0, min(kappa, low)), min(1.0, max(kappa, high)))


def _kappa(verdicts: Sequence[LabelVerdict], confidence: float) -> Estimate | None:
    pairs = [(verdict.person, verdict.judge) for verdict in verdicts if verdict.judge is not None]
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    bounds = cohens_kappa(both, pairs.count((True, False)), pairs.count((False, True)), neither, confidence)
    return estimate(bounds, len(pairs)) if bounds else None


def _agreed(verdicts: Sequence[LabelVerdict]) -> int:
    return sum(verdict.judge == verdict.person for verdict in verdicts)
