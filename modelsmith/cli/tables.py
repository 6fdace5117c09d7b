"""Cells that views share: coloured verdicts and intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Styled

if TYPE_CHECKING:
    from modelsmith.schema.run import Estimate

COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def styled_outcome(outcome: str) -> Styled:
    """PASS, FAIL or INCONCLUSIVE in its colour."""
    return Styled(outcome, COLOURS.get(outcome, ""))


def interval(estimate: Estimate, limit: float | None = None) -> str:
    """A value with its interval; beside a limit with digits enough to tell the two apart."""
    from modelsmith.schema.figures import format_beside

    return f"{format_beside(estimate.value, limit)[0]}  [{estimate.low:.3f}, {estimate.high:.3f}]"
