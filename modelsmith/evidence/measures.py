"""How the review packet shows critical cases, the judge and the repeats. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelsmith.evaluation.critical import critical_failures, how
from modelsmith.evidence.markdown import folded, money, safe, short, table
from modelsmith.schema.base import Section
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.run import EngineFacts, Estimate

LABELS: Final[Mapping[Section, str]] = {
    "core": "Core",
    "robustness": "Robustness",
    "micro": "Micro",
    "held_out": "Held-out",
}


def baselines_section(evidence: Evidence) -> str:
    """The candidate beside every other model on the same question; empty with the incumbent and base alone."""
    if all(run.model == "base" for run in evidence.baselines):
        return ""
    rows = [["model", "composite", "held-out passed", "per decision", "weights"]]
    for run in (evidence.candidate, evidence.incumbent, *evidence.baselines):
        engine = run.engine or evidence.engine
        rows.append(
            [
                safe(run.model),
                f"{run.headline.composite.value:.3f}",
                f"{run.headline.held_out.value:.3f}",
                money(run.cost.cost_per_decision, run.cost.currency) if run.cost else "-",
                short(run.weights) if engine.weights == "pinned" else _unpinned(engine),
            ]
        )
    return f"### Baselines\n\n{table(rows, 'lrrrl')}"


def _unpinned(engine: EngineFacts) -> str:
    return f"unknown; its own {', '.join(engine.omitted)}" if engine.omitted else "unknown"


CRITICAL_SHOWN: Final = 20
"""Critical failures in the open; the rest is one click away."""


def critical_section(evidence: Evidence) -> str:
    """Every critical scenario that the candidate fails, and how; empty when the set has none."""
    critical = {row.id for row in evidence.candidate.rows if row.critical}
    if not critical:
        return ""
    failed = critical_failures(evidence.candidate.rows, evidence.rule)
    if not failed:
        return f"### Critical scenarios\n\nAll {len(critical)} pass."
    theirs = {(failure.section, failure.id) for failure in critical_failures(evidence.incumbent.rows, evidence.rule)}
    lines = [
        f"- `{failure.id}` ({LABELS[failure.section].lower()}, {failure.capability}): {how(failure)}; the incumbent "
        f"{'fails it too' if (failure.section, failure.id) in theirs else 'passes it'}"
        for failure in failed
    ]
    lost = len({failure.id for failure in failed})
    parts = [
        f"### Critical scenarios\n\n{lost} of {len(critical)} fail. Each, and how:",
        "\n".join(lines[:CRITICAL_SHOWN]),
    ]
    if folded_lines := lines[CRITICAL_SHOWN:]:
        parts.append(folded(f"and {len(folded_lines)} more", "\n".join(folded_lines)))
    return "\n\n".join(parts)


def judge_section(evidence: Evidence) -> str:
    """The judge of the judged points, and how far people agree with it; empty without a judge."""
    judge = evidence.judge
    if judge is None:
        return ""
    judge_sentence = f"The model {safe(judge.judge)} ({short(judge.identity)}) decides what no declared check can."
    if not judge.verdicts:
        return f"### Judge\n\n{judge_sentence} Nobody labelled answers to measure it by."
    needed = "" if evidence.rule.min_kappa is None else f"; the rule asks for {evidence.rule.min_kappa:.3f}"
    unclear = f" To {judge.unclear} of them it gave no clear verdict." if judge.unclear else ""
    text = (
        f"{judge_sentence} On {len(judge.verdicts)} answers that people labelled it says what they say "
        f"{judge.agreed} times: Cohen's kappa {_kappa(judge.kappa)}{needed}. "
        f"1 is full agreement, 0 is what chance gives.{unclear}"
    )
    rows = [["rubric point", "judged alike", "kappa"]]
    rows += [[point.point, f"{point.agreed} / {point.total}", _kappa(point.kappa)] for point in judge.points]
    return f"### Judge\n\n{text}\n\n{table(rows, 'lrr')}"


def repeats_section(evidence: Evidence) -> str:
    """pass@k and pass^k of candidate and incumbent; empty when each wording was answered once."""
    mine, theirs = evidence.candidate.headline.sections, evidence.incumbent.headline.sections
    before = {(score.section, rate.k): rate for score in theirs if score.repeats for rate in score.repeats.rates}
    rows = [["section", "k", "at least once in k", "interval", "every time in k", "interval", "incumbent, every time"]]
    for score in mine:
        for rate in score.repeats.rates if score.repeats else ():
            prior = before.get((score.section, rate.k))
            rows.append(
                [
                    LABELS[score.section],
                    str(rate.k),
                    *_share(rate.at_least_one),
                    *_share(rate.every),
                    f"{prior.every.value:.3f}" if prior else "-",
                ]
            )
    if len(rows) == 1:
        return ""
    text = "Share of scenarios that pass in k tries; a try passes when each of its wordings does."
    return f"### Repeats\n\n{text}\n\n{table(rows, 'lrrrrrr')}"


def _kappa(kappa: Estimate | None) -> str:
    return f"{kappa.value:.3f} ({kappa.low:.3f} to {kappa.high:.3f})" if kappa else "not defined"


def _share(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}"
