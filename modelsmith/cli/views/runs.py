"""Views of an eval run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.measures import judge_line, repeat_table
from modelsmith.cli.page import Page, Parts, Styled
from modelsmith.cli.tables import interval, styled_outcome
from modelsmith.cli.views.change import change_eval_view
from modelsmith.evaluation.critical import how
from modelsmith.evidence.markdown import money
from modelsmith.schema.figures import format_apart, p_value

if TYPE_CHECKING:
    from modelsmith.operations.compare import CompareResult
    from modelsmith.operations.evaluate import EvalResult
    from modelsmith.operations.results import ResultsResult
    from modelsmith.schema.run import Cost, Estimate, RunResult


def _against(estimate: Estimate, threshold: float) -> Parts:
    outcome = "PASS" if estimate.value >= threshold else "FAIL"
    threshold_text = format_apart(estimate.value, threshold)[1]
    return (f"{interval(estimate, threshold)}  ", styled_outcome(outcome), f"  (threshold {threshold_text})")


def duration(seconds: float) -> str:
    """``4m 12s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def executed(run: RunResult) -> str:
    """``7 of 412 (scenario-changed 7)``."""
    why = ", ".join(f"{cause} {count}" for cause, count in sorted(run.because.items()))
    judged = f"; {run.judged} verdicts asked of the judge" if run.judged else ""
    return f"{run.executed} of {run.completions}{f' ({why})' if why else ''}{judged}"


def _part(run: RunResult) -> str:
    return ", quick" if run.quick else ", changed ones only" if run.only is not None else ""


def _latency(cost: Cost) -> str:
    text = f"p50 {cost.p50_seconds:.2f}s, p95 {cost.p95_seconds:.2f}s"
    if cost.first_token_p50_seconds is None or cost.first_token_p95_seconds is None:
        return text
    first = f"p50 {cost.first_token_p50_seconds:.2f}s, p95 {cost.first_token_p95_seconds:.2f}s"
    return f"{text}; first token {first}"


def _bill(run: RunResult) -> list[tuple[str, str]]:
    return [
        ("executed", executed(run)),
        ("duration", duration(run.duration_seconds)),
        ("latency", _latency(run.cost)),
        ("tokens", f"{run.cost.prompt_tokens} asked, {run.cost.completion_tokens} answered"),
        ("per decision", money(run.cost.cost_per_decision, run.cost.currency)),
    ]


def part_view(run: RunResult, page: Page) -> None:
    """The run of what changed: what it cost. Its own figures say nothing; the whole set's do."""
    page.gap()
    pairs = [("cluster", run.cluster), ("model", run.model), ("tag", run.tag)]
    page.rows([*pairs, ("scenarios", f"{run.scenarios} ({', '.join(run.sections)}{_part(run)})"), *_bill(run)])


def run_view(run: RunResult, page: Page) -> None:
    """One eval run: the headline, then rubric points and capabilities."""
    headline, thresholds = run.headline, run.rule.thresholds
    pairs: list[tuple[str, Parts]] = [
        ("cluster", run.cluster),
        ("model", run.model),
        ("tag", run.tag),
        ("scenarios", f"{run.scenarios} ({', '.join(run.sections)}{_part(run)})"),
        ("", ""),
        ("composite", _against(headline.composite, thresholds.composite)),
    ]
    if "held_out" in run.sections:
        pairs.append(("held_out", _against(headline.held_out, thresholds.held_out)))
    if run.incumbent:
        pairs.append(("regressions", f"{len(headline.regressions)} / {headline.compared}"))
    if run.judge:
        pairs.append(("judge", judge_line(run.judge)))
    if headline.cut_off:
        pairs.append(("cut off", f"{headline.cut_off} of {run.completions} answers reached max_new_tokens"))
    pairs += [("verdict", styled_outcome(headline.verdict)), *_bill(run)]
    page.gap()
    page.rows(pairs)
    page.gap()
    points = [
        (rate.point, str(rate.passed), str(rate.total), f"{rate.passed / rate.total:.0%}")
        for rate in headline.per_rubric
    ]
    page.table(("rubric point", "passed>", "of>", "share>"), points)
    page.gap()
    sections = [s.section for s in headline.sections]
    rates = {(r.section, r.capability): f"{r.passed}/{r.total}" for r in headline.per_capability}
    capabilities = [
        (capability, *(rates.get((section, capability), "") for section in sections))
        for capability in sorted({r.capability for r in headline.per_capability})
    ]
    page.table(("capability", *(f"{section}>" for section in sections)), capabilities)
    page.gap()
    if any(section.repeats for section in headline.sections):
        repeat_table(headline.sections, page)
        page.gap()
    for check in headline.checks:
        page.line(styled_outcome(check.outcome), f"  {check.sentence}")


def eval_view(result: EvalResult, page: Page) -> None:
    """Page of what ``modelsmith eval`` gives."""
    if result.run is not None:
        show = part_view if result.run.only is not None and result.whole is not None else run_view
        show(result.run, page)
    if result.change is not None:
        change_eval_view(result, page)


def results_view(result: ResultsResult, page: Page) -> None:
    """Page of what ``modelsmith results`` gives."""
    run_view(result.run, page)
    if result.critical:
        page.gap()
        page.line(Styled("critical scenarios that fail", "bold"))
    for lost in result.critical:
        page.line(Styled(f"{lost.section}/{lost.id}", "red"), f" ({lost.capability}): {how(lost)}", indent=2)
        for point, reason in lost.reasons.items():
            page.line(f"{point}: {reason}", indent=4)
    for failure in result.failures:
        page.gap()
        page.line(Styled(f"{failure.section}/{failure.id}", "bold"), f" wording {failure.wording}; the model's answer:")
        page.words(failure.answer, indent=2)
        if failure.finish == "length":
            page.line("cut off: the answer reached max_new_tokens", indent=2)
        for point, reason in failure.reasons.items():
            page.line(f"{point}: {reason}", indent=2)


def compare(result: CompareResult, page: Page) -> None:
    """Page of what ``modelsmith compare`` gives."""
    comparison = result.comparison
    page.rows(
        [
            ("first", f"{result.first}  composite {interval(comparison.composite[0])}"),
            ("second", f"{result.second}  composite {interval(comparison.composite[1])}"),
            ("difference", interval(comparison.difference)),
            ("gained, lost", f"{comparison.gained}, {comparison.lost} (McNemar {p_value(comparison.mcnemar_p)})"),
            ("outcome", comparison.outcome),
        ],
    )
    page.line(comparison.sentence)
    page.table(("scenario", "section", "flip"), [(flip.id, flip.section, flip.direction) for flip in comparison.flips])
