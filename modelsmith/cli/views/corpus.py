"""Views of eval sets and of how scores moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled
from modelsmith.cli.tables import styled_outcome

if TYPE_CHECKING:
    from modelsmith.evaluation.corpus.balance import Balance, DimensionBalance
    from modelsmith.evidence.composite_history import CompositeHistory
    from modelsmith.operations.balance import BalanceResult
    from modelsmith.operations.composite_history import CompositeHistoryResult

_GROUPS = {"core": "inside core and micro", "held_out": "inside held-out", "held_out_to_core": "held-out to core"}
_PAIRS = 3
_BLOCKS = "▁▂▃▄▅▆▇█"


def balance(result: BalanceResult, page: Page) -> None:
    """The balance of an eval set: one table for each dimension, near scenarios, flags."""
    balances = result.balance
    page.gap()
    page.rows(
        [
            ("eval set", f"{balances.eval_set} {balances.version}"),
            ("scenarios", ", ".join(f"{count} {section}" for section, count in balances.scenarios.items())),
            ("composite", ", ".join(f"{weight:.0%} {section}" for section, weight in balances.weights.items())),
        ],
    )
    for dimension in balances.dimensions:
        page.gap()
        _dimension(dimension, balances, page)
    page.gap()
    for near in balances.near:
        page.line(
            f"{_GROUPS[near.group]}: {near.duplicates} near-duplicates (limit {near.limit:.2f}); nearest scenarios:"
        )
        for pair in near.pairs[:_PAIRS]:
            page.line(f"{pair.similarity:.2f}  {pair.first} ~ {pair.second}", indent=2)
    page.gap()
    for flag in balances.flags:
        page.line(Styled(flag.kind, "yellow"), f"  {flag.sentence}")
    if not balances.flags:
        page.line("nothing is flagged")
    _picture(result.svg, page)


def _picture(svg: str | None, page: Page) -> None:
    if svg:
        page.gap()
        page.line(f"picture  {svg}")


def _dimension(dimension: DimensionBalance, result_balance: Balance, page: Page) -> None:
    sections = list(result_balance.scenarios)
    body = []
    for value in dimension.values:
        counts = [str(value.scenarios[section]) for section in sections]
        if "held_out" in sections:
            counts[-1] += f" ({value.held_out:.0%})"
        body.append((value.value, *counts, f"{value.composite:.1%}"))
    page.table((dimension.dimension, *(f"{section}>" for section in sections), "composite>"), body)
    if dimension.moves:
        page.line(
            f"{dimension.moves} of {result_balance.scenarios['held_out']} held-out scenarios would need another "
            f"{dimension.dimension.replace('_', ' ')} to stand as core does"
        )


def composite_history(result: CompositeHistoryResult, page: Page) -> None:
    """Each run of a cluster in the order of time."""
    history = result.history
    page.gap()
    labelled = [("cluster", history.cluster), ("serves now", _shares(history.serving))]
    if history.entries:
        labelled.append(("composite", _sparkline(history)))
    page.rows(labelled)
    page.gap()
    if not history.entries:
        page.line(f"no complete run yet; modelsmith eval --cluster {history.cluster} makes one")
    else:
        _runs(history, page)
    for question in history.questions:
        reference = f"base {question.reference.value:.3f}" if question.reference else "base not evaluated"
        page.line(f"question {question.number}: {question.eval_set} {question.eval_set_version}, {reference}")
    _picture(result.svg, page)


def _runs(history: CompositeHistory, page: Page) -> None:
    changes = {change.number: change.sentence for change in history.changes}
    width = max(len(entry.model) for entry in history.entries)
    head = f"{'no.':>3}  {'model':<{width}}  {'composite':<21}  {'held-out':<8}  {'verdict':<12}  state"
    page.line(Styled(head, "bold"))
    for entry in history.entries:
        if entry.number in changes:
            page.line(Styled(changes[entry.number], "yellow"))
        composite = entry.composite
        interval = f"{composite.value:.3f} [{composite.low:.3f}, {composite.high:.3f}]"
        held_out = f"{entry.held_out.value:.3f}" if entry.held_out.n else "-"
        state = [*entry.events[-1:], *([f"serves {entry.serves:.0%}"] if entry.serves else [])]
        if entry.overridden:
            state.insert(0, "overridden by a person")
        if not entry.complete:
            state.append("not complete")
        state += [f"{later.verdict} by a later rule ({later.threshold:g} to reach)" for later in entry.rejudged]
        line = f"{entry.number:>3}  {entry.model:<{width}}  {interval:<21}  {held_out:<8}  "
        ended = f"{' ' * (12 - len(entry.verdict))}  {', '.join(state)}".rstrip()
        page.line(line, styled_outcome(entry.verdict), ended)
    page.gap()


def _sparkline(history: CompositeHistory) -> str:
    """Composites as blocks from 0 to 1, with a bar where the question changed."""
    breaks = {change.number for change in history.changes}
    return "".join(
        ("|" if entry.number in breaks else "") + _BLOCKS[min(7, int(entry.composite.value * 8))]
        for entry in history.entries
    )


def _shares(serving: dict[str, float]) -> str:
    return ", ".join(f"{model} {share:.0%}" for model, share in serving.items())
