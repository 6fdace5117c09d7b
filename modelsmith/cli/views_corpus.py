"""Views of eval sets and of how scores moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from modelsmith.cli.layout import INDENT, rows, table

if TYPE_CHECKING:
    from modelsmith.evaluation.balance import Balance, DimensionBalance
    from modelsmith.operations.balance import BalanceResult

_GROUPS = {"core": "inside core and micro", "held_out": "inside held-out", "held_out_to_core": "held-out to core"}
_PAIRS = 3


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
