"""What every view is made of: indented rows, plain tables, coloured verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from modelsmith.schema.run import Estimate

INDENT = "  "
COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def rows(console: Console, pairs: list[tuple[str, str]]) -> None:
    """Labels and their values, one a line."""
    width = max(len(label) for label, _ in pairs) + 3
    for label, text in pairs:
        console.print(f"{INDENT}{label:<{width}}{text}")


def table(*columns: str) -> Table:
    """An empty table; a column whose name ends in ``>`` is set flush right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        name, right, _ = column.partition(">")
        made.add_column(f"{INDENT}{name}" if column == columns[0] else name, justify="right" if right else "left")
    return made


def verdict(outcome: str) -> str:
    """PASS, FAIL or INCONCLUSIVE in its colour."""
    return f"[{COLOURS[outcome]}]{outcome}[/]"


def interval(estimate: Estimate) -> str:
    """A value with its interval, as console markup."""
    return f"{estimate.value:.3f}  [{estimate.low:.3f}, {estimate.high:.3f}]".replace("[", r"\[")
