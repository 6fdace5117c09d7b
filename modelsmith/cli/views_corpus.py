"""Views of eval sets and of how scores moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from modelsmith.cli.tables import INDENT, rows, table, verdict

if TYPE_CHECKING:
    from modelsmith.evaluation.corpus.balance import Balance, DimensionBalance
    from modelsmith.evidence.composite_history import CompositeHistory
    from modelsmith.operations.balance import BalanceResult
    from modelsmith.operations.composite_history import CompositeHistoryResult

_GROUPS = {"core": "inside core and micro", "held_out": "inside held-out", "held_out_to_core": "held-out to core"}
_PAIRS = 3
_BLOCKS = "▁▂▃▄▅▆▇█"


def balance(result: BalanceResult, console: Console) -> None:
    """The balance of an eval set: one table for each dimension, near scenarios, flags."""
    found = result.balance
    console.print()
    rows(
        console,
        [
            ("eval set", f"{found.eval_set} {found.version}"),
            ("scenarios", ", ".join(f"{count} {section}" for section, count in found.scenarios.items())),
            ("composite", ", ".join(f"{weight:.0%} {section}" for section, weight in found.weights.items())),
        ],
    )
    for one in found.dimensions:
        console.print()
        _dimension(one, found, console)
    console.print()
    for near in found.near:
        console.print(
            f"{INDENT}{_GROUPS[near.group]}: {near.duplicates} near-duplicates "
            f"(limit {near.limit:.2f}); nearest scenarios:"
        )
        for pair in near.pairs[:_PAIRS]:
            console.print(f"{INDENT}{INDENT}{pair.similarity:.2f}  {pair.first} ~ {pair.second}")
    console.print()
    for flag in found.flags:
        console.print(f"{INDENT}[yellow]{flag.kind}[/]  {escape(flag.sentence)}")
    if not found.flags:
        console.print(f"{INDENT}nothing is flagged")
    if result.svg:
        console.print(f"\n{INDENT}picture  {escape(result.svg)}")


def _dimension(one: DimensionBalance, found: Balance, console: Console) -> None:
    sections = list(found.scenarios)
    shown = table(one.dimension, *(f"{section}>" for section in sections), "composite>")
    for value in one.values:
        counts = [str(value.scenarios[section]) for section in sections]
        if "held_out" in sections:
            counts[-1] += f" ({value.held_out:.0%})"
        shown.add_row(f"{INDENT}{value.value}", *counts, f"{value.composite:.1%}")
    console.print(shown)
    if one.moves:
        console.print(
            f"{INDENT}{one.moves} of {found.scenarios['held_out']} held-out scenarios would need another "
            f"{one.dimension.replace('_', ' ')} to stand as core does"
        )


def composite_history(result: CompositeHistoryResult, console: Console) -> None:
    """Each run of a cluster in the order of time."""
    found = result.history
    console.print()
    labelled = [("cluster", found.cluster), ("serves now", _shares(found.serving))]
    if found.entries:
        labelled.append(("composite", _sparkline(found)))
    rows(console, labelled)
    console.print()
    if not found.entries:
        console.print(f"{INDENT}no complete run yet; modelsmith eval --cluster {found.cluster} makes one")
    else:
        _runs(found, console)
    for one in found.questions:
        reference = f"base {one.reference.value:.3f}" if one.reference else "base not evaluated"
        console.print(f"{INDENT}question {one.number}: {one.eval_set} {one.eval_set_version}, {reference}")
    if result.svg:
        console.print(f"\n{INDENT}picture  {escape(result.svg)}")


def _runs(found: CompositeHistory, console: Console) -> None:
    changes = {one.number: one.sentence for one in found.changes}
    width = max(len(entry.model) for entry in found.entries)
    head = f"{'no.':>3}  {'model':<{width}}  {'composite':<21}  {'held-out':<8}  {'verdict':<12}  state"
    console.print(f"{INDENT}[bold]{head}[/]")
    for entry in found.entries:
        if entry.number in changes:
            console.print(f"{INDENT}[yellow]{escape(changes[entry.number])}[/]")
        one = entry.composite
        interval = f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        held = f"{entry.held_out.value:.3f}" if entry.held_out.n else "-"
        state = [*entry.events[-1:], *([f"serves {entry.serves:.0%}"] if entry.serves else [])]
        if not entry.complete:
            state.append("not complete")
        line = f"{entry.number:>3}  {entry.model:<{width}}  {interval:<21}  {held:<8}  "
        console.print(f"{INDENT}{escape(line)}", end="")
        console.print(f"{verdict(entry.verdict)}{' ' * (12 - len(entry.verdict))}  {', '.join(state)}".rstrip())
    console.print()


def _sparkline(found: CompositeHistory) -> str:
    """Composites as blocks from 0 to 1, with a bar where the question changed."""
    breaks = {one.number for one in found.changes}
    return "".join(
        ("|" if entry.number in breaks else "") + _BLOCKS[min(7, int(entry.composite.value * 8))]
        for entry in found.entries
    )


def _shares(serving: dict[str, float]) -> str:
    return ", ".join(f"{model} {share:.0%}" for model, share in serving.items())
