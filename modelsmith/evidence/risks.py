"""Open risk: what the figures do not prove, said before anyone asks. A pure function of evidence and cluster."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from modelsmith.evaluation.compare import detectable
from modelsmith.evaluation.tally import tally
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.figures import format_apart
from modelsmith.schema.run import Estimate

WEAK = 0.7
"""A capability that passes a smaller share of its cases than this is named as weak even when the gate passes."""
REPHRASING_LOSS = 0.05
"""A robustness score this much below the core score is worth a sentence."""
MANY_CONSULTATIONS = 10
"""Looks at the held-out scenarios beyond which they are worth a warning."""
NEAR = 0.7
"""From this similarity on, the nearest pair of texts is worth a warning; 1 means the same words."""


def open_risks(evidence: Evidence, cluster: Cluster) -> tuple[str, ...]:
    """Sentences about what remains uncertain, gravest first."""
    return tuple(
        sentence
        for part in (
            _critical,
            _cut_off,
            _size,
            _interval,
            _judge,
            _weakest,
            _rephrasing,
            _incumbent,
            _attempts,
            _nearest,
            _serving,
        )
        for sentence in part(evidence, cluster)
    )


def _critical(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    failed = sorted(
        {
            entry.id
            for entry in tally(evidence.candidate.rows, evidence.rule).values()
            if entry.critical and not entry.passed
        }
    )
    if failed:
        names = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        yield f"Critical scenarios that the candidate does not pass, whether or not the incumbent did: {names}."


def _cut_off(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    """Answers that had no room to end say little, whether they passed or not."""
    required = {point.id for point in evidence.rule.points if point.required}
    for name, run in (("candidate", evidence.candidate), ("incumbent", evidence.incumbent)):
        cut = [row for row in run.rows if row.cut_off]
        if cut:
            failed = sum(not all(row.points[point] for point in required) for row in cut)
            yield (
                f"{len(cut)} of {len(run.rows)} answers of the {name} reached max_new_tokens before they ended; "
                f"{failed} of these fail. They count as they stand: a larger limit may tell another story."
            )


def _size(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    held_out = evidence.candidate.headline.held_out
    if held_out.n:
        width = held_out.high - held_out.low
        text = f"{held_out.n} held-out scenarios leave the pass rate open by {_points(width)}"
        change = evidence.candidate.headline.difference
        if change is not None and change.n:
            effect = detectable(change, evidence.rule.decision.confidence)
            text += f"; a change against the incumbent of less than {_points(effect)} would probably go unnoticed"
        yield f"{text}."


def _interval(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    headline, limits = evidence.candidate.headline, evidence.rule.thresholds
    pairs: tuple[tuple[str, Estimate, float], ...] = (
        ("composite", headline.composite, limits.composite),
        ("held-out pass rate", headline.held_out, limits.held_out),
    )
    for name, score, threshold in pairs:
        if score.n and score.low < threshold <= score.value:
            low, limit = format_apart(score.low, threshold)
            yield (
                f"The {name} reaches {limit}, but its interval begins at {low}: "
                "the true value may lie below the threshold."
            )


def _judge(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    judge, needed = evidence.judge, evidence.rule.min_kappa
    if judge is None:
        return
    if judge.kappa is None or judge.unclear:
        yield f"What the judge {judge.judge} decided is unproven: its agreement with people could not be told."
    elif needed is None:
        yield f"The rule asks for no agreement between the judge and people; kappa is {judge.kappa.value:.3f}."
    elif judge.kappa.low < needed <= judge.kappa.value:
        low, limit = format_apart(judge.kappa.low, needed)
        yield (
            f"The judge's kappa reaches {limit}, but its interval begins at {low}: "
            f"{judge.kappa.n} labelled answers are few to know a judge by."
        )


def _weakest(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for rate in evidence.candidate.headline.per_capability:
        passed[rate.capability] += rate.passed
        total[rate.capability] += rate.total
    if len(total) > 1:
        name = min(total, key=lambda capability: (passed[capability] / total[capability], capability))
        weak = [capability for capability in total if passed[capability] / total[capability] < WEAK]
        others = f"; {len(weak)} capabilities are below {WEAK:.0%}" if len(weak) > 1 else ""
        yield f"The weakest capability is {name}: {passed[name]} of {total[name]} results pass{others}."


def _rephrasing(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    scores = {section.section: section.score.value for section in evidence.candidate.headline.sections}
    loss = scores.get("core", 0.0) - scores.get("robustness", math.inf)
    if loss >= REPHRASING_LOSS:
        yield f"Rephrasing costs {_points(loss)} of the score: part of what it knows is wording."


def _incumbent(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    if evidence.incumbent.model == "base":
        yield (
            "The incumbent is the untrained base model and passes "
            f"{evidence.candidate.headline.compared} results only, so a count of regressions says little."
        )


def _attempts(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    if evidence.attempts > 1:
        yield f"This question was begun {evidence.attempts} times for these weights; the first complete attempt counts."
    if evidence.held_out_consulted > MANY_CONSULTATIONS:
        yield (
            f"The held-out scenarios had been consulted {evidence.held_out_consulted} times by then; each look makes "
            "their pass rate a little too favourable. Add fresh ones."
        )


def _nearest(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    for pair, similarity in (
        ("a training row and a scored text", evidence.nearest.training_to_scored),
        ("a held-out and a core text", evidence.nearest.held_out_to_core),
    ):
        if similarity >= NEAR:
            yield f"The nearest pair of {pair} is {similarity:.2f} alike (1: the same words)."


def _serving(evidence: Evidence, cluster: Cluster) -> Iterator[str]:
    engine = evidence.engine
    yield (
        f"Evaluated in {engine.dtype} on {engine.device} with {engine.substrate}; the serving target is "
        f"{cluster.deployment.target}. Another precision or engine is another artifact and needs an eval of its own."
    )


def _points(share: float) -> str:
    return f"{share * 100:.1f} points"
