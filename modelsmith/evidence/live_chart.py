"""The picture of a window: each metric's loss with what is excluded, beside what the contract allows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from modelsmith.evidence import svg
from modelsmith.evidence.live_notice import excluded_words
from modelsmith.evidence.svg import AMBER, BLUE, GREEN, GREY, INK, MARGIN, MUTED, RED, RULE, WIDTH
from modelsmith.governance.window import loss_text
from modelsmith.schema.live_evidence import Finding, Judged

_LEFT, _RIGHT = 220, 560
_ROW, _TOP = 58, 112
_COLOURS: Final[dict[Judged, str]] = {"confirm": GREEN, "roll-back": RED, "inconclusive": AMBER}
_REACH: Final = 3.0
"""How many times the allowed loss the plot reaches to either side; what lies beyond is cut off at its edge."""


def live_chart(title: str, outcome: Judged, findings: Sequence[Finding], line: str) -> str:
    """The picture as SVG text.

    Args:
        title: Whose window it is.
        outcome: What it comes to.
        findings: By metric.
        line: How much was counted, and how long it goes on.
    """
    body = [
        svg.text(MARGIN, 47, svg.fit(title, 22, WIDTH - 2 * MARGIN - 150, bold=True), INK, 22, True),
        svg.text(WIDTH - MARGIN, 47, outcome, _COLOURS[outcome], 16, True, "end"),
        svg.text(MARGIN, 70, svg.fit(line, 13, WIDTH - 2 * MARGIN), MUTED),
    ]
    for number, finding in enumerate(findings):
        body.append(svg.group(_words(finding), _row(finding, _TOP + number * _ROW)))
    height = _TOP + len(findings) * _ROW + 26
    body.append(svg.text(_LEFT, height - 22, "better", MUTED, 11))
    body.append(svg.text(_RIGHT, height - 22, "worse than the incumbent", MUTED, 11, anchor="end"))
    return svg.picture(height, title, "; ".join(_words(finding) for finding in findings) or "No metric.", body)


def _row(finding: Finding, top: float) -> Iterator[str]:
    relative, middle = finding.scale == "relative", top + 16
    yield svg.text(MARGIN, top + 14, svg.fit_name(finding.metric, 13, _LEFT - MARGIN - 16), INK, 13, True)
    yield svg.text(MARGIN, top + 32, f"{loss_text(finding.allowed, relative)} allowed", MUTED, 11)
    yield svg.bar(_LEFT, middle - 7, _RIGHT - _LEFT, 14, svg.TRACK)
    yield svg.line(_at(0, finding), top, _at(0, finding), top + 32, RULE, 2)
    limit = _at(finding.allowed, finding)
    yield svg.line(limit, top, limit, top + 32, RED, 1.5, dashed=True)
    x_left = _LEFT if finding.least is None else _at(finding.least, finding)
    right = _RIGHT if finding.most is None else _at(finding.most, finding)
    if right > x_left:
        yield svg.bar(x_left, middle - 3, right - x_left, 6, BLUE if finding.loss is not None else GREY)
    if finding.loss is not None:
        beyond = finding.loss > finding.allowed
        yield svg.dot(_at(finding.loss, finding), middle, 5, RED if beyond else BLUE, "#ffffff", 1.5)
    text = "nothing yet" if finding.loss is None else f"{loss_text(finding.loss, relative)} worse"
    if finding.loss is not None and finding.loss <= 0:
        text = f"{loss_text(abs(finding.loss), relative)} better"
    room = WIDTH - MARGIN - _RIGHT - 16
    yield svg.text(_RIGHT + 16, top + 14, svg.fit(text, 13, room), INK, 13, True)
    yield svg.text(_RIGHT + 16, top + 32, svg.fit(f"excluded: {excluded_words(finding)}", 11, room), MUTED, 11)


def _at(loss: float, finding: Finding) -> float:
    part = max(-1.0, min(1.0, loss / (finding.allowed * _REACH)))
    return (_LEFT + _RIGHT) / 2 + part * (_RIGHT - _LEFT) / 2


def _words(finding: Finding) -> str:
    relative = finding.scale == "relative"
    loss = "nothing yet" if finding.loss is None else f"a loss of {loss_text(finding.loss, relative)}"
    return (
        f"{finding.metric}: {loss}, excluded {excluded_words(finding)}, allowed {loss_text(finding.allowed, relative)}"
    )
