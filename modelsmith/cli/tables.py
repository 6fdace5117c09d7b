"""What views share: coloured verdicts and intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Styled

if TYPE_CHECKING:
    from modelsmith.schema.run import Estimate

COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def verdict(outcome: str) -> Styled:
    """PASS, FAIL or INCONCLUSIVE in its colour."""
    return Styled(outcome, COLOURS.get(outcome, ""))


def interval(estimate: Estimate) -> str:
    """A value with its interval."""
    return f"{estimate.value:.3f}  [{estimate.low:.3f}, {estimate.high:.3f}]"
