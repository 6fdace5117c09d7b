"""How views lay out what they show: labelled rows, plain tables, colours of verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from modelsmith.schema.run import Estimate

INDENT = "  "
COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def rows(console: Console, labelled: list[tuple[str, str]]) -> None:
    """Labels and texts in two columns."""
    width = max(len(label) for label, _ in labelled) + 3
    for label, text in labelled:
        console.print(f"{INDENT}{label:<{width}}{text}")


def table(*columns: str) -> Table:
    """A table without lines; a column whose name ends in ``>`` is aligned to the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        name, right, _ = column.partition(">")
        made.add_column(f"{INDENT}{name}" if column == columns[0] else name, justify="right" if right else "left")
    return made


def verdict(outcome: str) -> str:
    """The outcome in its colour."""
    return f"[{COLOURS[outcome]}]{outcome}[/]"


def interval(estimate: Estimate) -> str:
    """``0.868  [0.807, 0.929]``."""
    return f"{estimate.value:.3f}  [{estimate.low:.3f}, {estimate.high:.3f}]".replace("[", r"\[")
