"""Views of an eval run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from modelsmith.cli.measures import judge_line, repeat_table
from modelsmith.cli.tables import INDENT, interval, rows, table, verdict
from modelsmith.cli.views_change import change_eval_view
from modelsmith.evidence.markdown import money

if TYPE_CHECKING:
    from modelsmith.schema.run import Cost, Estimate, RunResult


def _against(estimate: Estimate, threshold: float) -> str:
    outcome = "PASS" if estimate.value >= threshold else "FAIL"
    return f"{interval(estimate)}  {verdict(outcome)}  (threshold {threshold:.3f})"


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


def part_view(run: RunResult, console: Console) -> None:
    """The run of what changed: what it cost. Its own figures say nothing; the whole set's do."""
    console.print()
    pairs = [("cluster", run.cluster), ("model", run.model), ("tag", run.tag)]
    rows(console, [*pairs, ("scenarios", f"{run.scenarios} ({', '.join(run.sections)}{_part(run)})"), *_bill(run)])


def run_view(run: RunResult, console: Console) -> None:
    """One eval run: the headline, then rubric points and capabilities."""
    headline, thresholds = run.headline, run.rule.thresholds
    pairs = [
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
    pairs += [
        ("verdict", verdict(headline.verdict)),
        *_bill(run),
    ]
    console.print()
    rows(console, pairs)
    console.print()
    points = table("rubric point", "passed>", "of>", "share>")
    for rate in headline.per_rubric:
        points.add_row(f"{INDENT}{rate.point}", str(rate.passed), str(rate.total), f"{rate.passed / rate.total:.0%}")
    console.print(points)
    console.print()
    sections = [s.section for s in headline.sections]
    capabilities = table("capability", *(f"{section}>" for section in sections))
    rates = {(r.section, r.capability): f"{r.passed}/{r.total}" for r in headline.per_capability}
    for capability in sorted({r.capability for r in headline.per_capability}):
        capabilities.add_row(f"{INDENT}{capability}", *(rates.get((section, capability), "") for section in sections))
    console.print(capabilities)
    console.print()
    if any(one.repeats for one in headline.sections):
        console.print(repeat_table(headline.sections))
        console.print()
    for check in headline.checks:
        console.print(f"{INDENT}{verdict(check.outcome)}  {escape(check.sentence)}")


def eval_view(result: Any, console: Console) -> None:
    """``modelsmith eval``."""
    if result.run is not None:
        show = part_view if result.run.only is not None and result.whole is not None else run_view
        show(result.run, console)
    if result.change is not None:
        change_eval_view(result, console)


def results_view(result: Any, console: Console) -> None:
    """``modelsmith results``."""
    run_view(result.run, console)
    for failure in result.failures:
        console.print(f"\n{INDENT}[bold]{failure.section}/{failure.id}[/] wording {failure.wording}")
        console.print(f"{INDENT}{INDENT}answer: {failure.answer!r}", markup=False)
        for point, reason in failure.reasons.items():
            console.print(f"{INDENT}{INDENT}{point}: {reason}", markup=False)
