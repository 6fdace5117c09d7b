"""The picture of a window: each metric's loss with what is excluded, beside what the contract allows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from modelsmith.evidence import svg
from modelsmith.evidence.live_notice import excluded_words
from modelsmith.evidence.svg import AMBER, BLUE, GREEN, GREY, INK, MARGIN, MUTED, RED, RULE, WIDTH
from modelsmith.governance.window import shown
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
    for number, found in enumerate(findings):
        body.append(svg.group(_words(found), _row(found, _TOP + number * _ROW)))
    height = _TOP + len(findings) * _ROW + 26
    body.append(svg.text(_LEFT, height - 22, "better", MUTED, 11))
    body.append(svg.text(_RIGHT, height - 22, "worse than the incumbent", MUTED, 11, anchor="end"))
    return svg.picture(height, title, "; ".join(_words(found) for found in findings) or "No metric.", body)


def _row(found: Finding, top: float) -> Iterator[str]:
    relative, middle = found.scale == "relative", top + 16
    yield svg.text(MARGIN, top + 14, svg.fit_name(found.metric, 13, _LEFT - MARGIN - 16), INK, 13, True)
    yield svg.text(MARGIN, top + 32, f"{shown(found.allowed, relative)} allowed", MUTED, 11)
    yield svg.bar(_LEFT, middle - 7, _RIGHT - _LEFT, 14, svg.TRACK)
    yield svg.line(_at(0, found), top, _at(0, found), top + 32, RULE, 2)
    limit = _at(found.allowed, found)
    yield svg.line(limit, top, limit, top + 32, RED, 1.5, dashed=True)
    left = _LEFT if found.least is None else _at(found.least, found)
    right = _RIGHT if found.most is None else _at(found.most, found)
    if right > left:
        yield svg.bar(left, middle - 3, right - left, 6, BLUE if found.loss is not None else GREY)
    if found.loss is not None:
        beyond = found.loss > found.allowed
        yield svg.dot(_at(found.loss, found), middle, 5, RED if beyond else BLUE, "#ffffff", 1.5)
    text = "nothing yet" if found.loss is None else f"{shown(found.loss, relative)} worse"
    if found.loss is not None and found.loss <= 0:
        text = f"{shown(abs(found.loss), relative)} better"
    room = WIDTH - MARGIN - _RIGHT - 16
    yield svg.text(_RIGHT + 16, top + 14, svg.fit(text, 13, room), INK, 13, True)
    yield svg.text(_RIGHT + 16, top + 32, svg.fit(f"excluded: {excluded_words(found)}", 11, room), MUTED, 11)


def _at(loss: float, found: Finding) -> float:
    part = max(-1.0, min(1.0, loss / (found.allowed * _REACH)))
    return (_LEFT + _RIGHT) / 2 + part * (_RIGHT - _LEFT) / 2


def _words(found: Finding) -> str:
    relative = found.scale == "relative"
    loss = "nothing yet" if found.loss is None else f"a loss of {shown(found.loss, relative)}"
    return f"{found.metric}: {loss}, excluded {excluded_words(found)}, allowed {shown(found.allowed, relative)}"
