"""The view of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled
from modelsmith.evidence.live_notice import finding_row
from modelsmith.schema.steps import shell_line

if TYPE_CHECKING:
    from modelsmith.operations.live import LiveResult

_STYLES = {"confirm": "green", "roll-back": "red", "inconclusive": "yellow"}


def live(result: LiveResult, page: Page) -> None:
    """Page of what ``modelsmith live`` gives."""
    remaining = f"{result.minutes_left:g} minutes left" if result.minutes_left else "over"
    if result.ended_by:
        remaining = f"ended as {result.ended_by}"
    when = ("shadow", f"{result.differing} of {result.compared} answers differ from what callers got")
    if result.opens and result.closes:
        when = ("window", f"{result.opens:%Y-%m-%d %H:%M} to {result.closes:%Y-%m-%d %H:%M}, {remaining}")
    page.rows(
        [
            ("specialist", f"{result.specialist} of {result.cluster}"),
            when,
            ("outcome", Styled(result.outcome, _STYLES[result.outcome])),
        ]
    )
    if result.latched:
        at = f" at {result.latched_at:%Y-%m-%d %H:%M:%S}" if result.latched_at else ""
        page.line(Styled("taken back", "red"), f"   by the front door{at}; the incumbent has all of the traffic")
    page.gap()
    columns = ("metric", "specialist", "incumbent", "loss", "excluded", "allowed", "evidence")
    body = [
        (*finding_row(finding, result.counts), f"{finding.worse:.2f} of {result.trips_at:.2f}")
        for finding in result.findings
    ]
    page.table(columns, body)
    page.line("evidence: log10 that it is worse; it trips when that is reached and the loss is beyond what is allowed")
    page.gap()
    for reason in result.reasons:
        page.line(reason, indent=2)
    if result.svg:
        page.line(f"picture  {result.svg}")
    page.rows([("next", shell_line(result.next))])
