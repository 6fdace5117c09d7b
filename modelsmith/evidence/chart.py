"""The one picture of a promotion: scores with their intervals and thresholds, and each capability beside the incumbent.

A pure function of the evidence: same evidence, same bytes. Text stands in columns beside the marks, never on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from modelsmith.evidence import svg
from modelsmith.evidence.svg import AMBER, BLUE, GREEN, GREY, INK, MARGIN, MUTED, RED, RULE, TRACK, WIDTH
from modelsmith.schema.base import Section
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.figures import format_beside, signed
from modelsmith.schema.run import Estimate, Headline, SectionScore

SECTIONS: Final[tuple[tuple[Section, str], ...]] = (
    ("core", "Core"),
    ("robustness", "Robustness"),
    ("micro", "Micro"),
    ("held_out", "Held-out"),
)

VERDICT_COLOURS: Final = {"PASS": GREEN, "FAIL": RED, "INCONCLUSIVE": "#9a6700"}

_PLOT_LEFT, _PLOT_RIGHT = 196, 580
_VALUE_COLUMNS: Final = (652, 736, WIDTH - MARGIN)
_SCORE_ROW, _CAPABILITY_ROW = 46, 28
_BARS_LEFT, _BAR_GAP, _COUNT_WIDTH = 240, 22, 46


class _Score(NamedTuple):
    label: str
    note: str
    candidate: Estimate
    incumbent: Estimate | None
    threshold: float | None


class _Capability(NamedTuple):
    name: str
    counts: dict[Section, tuple[int, int]]
    before: dict[Section, tuple[int, int]]

    def share(self) -> float:
        total = sum(n for _, n in self.counts.values())
        return sum(passed for passed, _ in self.counts.values()) / total if total else 0.0


def chart(evidence: Evidence) -> str:
    """The picture as SVG text."""
    scores, capabilities = _scores(evidence), _capabilities(evidence)
    body: list[str] = []
    top = _header(evidence, body)
    top = _score_panel(scores, top, body)
    if capabilities:
        top = _capability_panel(capabilities, top, body)
    height = _footer(evidence, top, body)
    return svg.picture(height, _title(evidence), _description(scores, capabilities, evidence), body)


def _scores(evidence: Evidence) -> tuple[_Score, ...]:
    candidate, incumbent, limits = evidence.candidate.headline, evidence.incumbent.headline, evidence.rule.thresholds
    rows = []
    if candidate.composite.n:
        rows.append(
            _Score(
                "Composite",
                f"score, {_cases(candidate.composite.n)}",
                candidate.composite,
                _measured(incumbent.composite),
                limits.composite,
            )
        )
    for section, label in SECTIONS[:3]:
        mine = _section(candidate, section)
        if mine:
            theirs = _section(incumbent, section)
            rows.append(
                _Score(label, f"score, {_cases(mine.score.n)}", mine.score, theirs.score if theirs else None, None)
            )
    if candidate.held_out.n:
        note = f"passed, {_cases(candidate.held_out.n)}"
        rows.append(_Score("Held-out", note, candidate.held_out, _measured(incumbent.held_out), limits.held_out))
    return tuple(rows)


def _capabilities(evidence: Evidence) -> tuple[_Capability, ...]:
    by_name: dict[str, _Capability] = {}
    for rate in evidence.candidate.headline.per_capability:
        capability = by_name.setdefault(rate.capability, _Capability(rate.capability, {}, {}))
        capability.counts[rate.section] = (rate.passed, rate.total)
    for rate in evidence.incumbent.headline.per_capability:
        if rate.capability in by_name:
            by_name[rate.capability].before[rate.section] = (rate.passed, rate.total)
    return tuple(sorted(by_name.values(), key=lambda capability: (capability.share(), capability.name)))


def _section(headline: Headline, section: Section) -> SectionScore | None:
    return next((score for score in headline.sections if score.section == section), None)


def _measured(estimate: Estimate) -> Estimate | None:
    return estimate if estimate.n else None


def _cases(number: int) -> str:
    return f"{number} case{'' if number == 1 else 's'}"


def _title(evidence: Evidence) -> str:
    question = f"{evidence.eval_set} {evidence.eval_set_version}"
    return f"{evidence.specialist} on {question}: {evidence.candidate.headline.verdict}"


def _description(scores: Sequence[_Score], capabilities: Sequence[_Capability], evidence: Evidence) -> str:
    parts = []
    for row in scores:
        value, limit = format_beside(row.candidate.value, row.threshold)
        text = f"{row.label} {value}, interval {row.candidate.low:.3f} to {row.candidate.high:.3f}"
        if row.threshold is not None:
            text += f", threshold {limit} {'reached' if _reached(row) else 'missed'}"
        if row.incumbent is not None:
            text += f", incumbent {row.incumbent.value:.3f}"
        parts.append(text)
    for capability in capabilities:
        counts = (
            f"{name.lower()} {capability.counts[s][0]} of {capability.counts[s][1]}"
            for s, name in SECTIONS
            if s in capability.counts
        )
        parts.append(f"{capability.name}: {', '.join(counts)}")
    parts.append(_regressions(evidence))
    return "; ".join(parts) + "."


def _regressions(evidence: Evidence) -> str:
    headline = evidence.candidate.headline
    critical = sum(regression.critical for regression in headline.regressions)
    text = f"{len(headline.regressions)} of {headline.compared} results that the incumbent passes are lost"
    return f"{text}, {critical} of them critical" if critical else text


def _reached(row: _Score) -> bool:
    return row.threshold is None or row.candidate.value >= row.threshold


def _header(evidence: Evidence, body: list[str]) -> int:
    verdict = evidence.candidate.headline.verdict
    colour = VERDICT_COLOURS[verdict]
    badge = round(svg.measure(verdict, 15, bold=True)) + 36
    badge_x = WIDTH - MARGIN - badge
    room = badge_x - MARGIN - 24
    subtitle = f"{evidence.cluster} | {evidence.eval_set} {evidence.eval_set_version}"
    body += [
        svg.text(MARGIN, 47, svg.fit(evidence.specialist, 22, room, bold=True), size=22, bold=True),
        svg.text(MARGIN, 70, svg.fit(subtitle, 13, room), MUTED),
        f'<rect x="{badge_x}" y="28" width="{badge}" height="34" rx="17" fill="{colour}"/>',
        svg.text(badge_x + badge / 2, 50.5, verdict, "#ffffff", size=15, bold=True, anchor="middle"),
    ]
    return 92


def _score_panel(scores: Sequence[_Score], top: int, body: list[str]) -> int:
    header = top + 18
    rows_top = header + 14
    bottom = rows_top + len(scores) * _SCORE_ROW
    for position, name in zip(_VALUE_COLUMNS, ("candidate", "incumbent", "threshold"), strict=True):
        body.append(svg.text(position, header, name, MUTED, size=12, anchor="end"))
    body.append(svg.text(MARGIN, header, "Scores", bold=True))
    for quarter in range(5):
        x = _x(quarter / 4)
        body.append(svg.line(x, rows_top, x, bottom, RULE))
        body.append(svg.text(x, bottom + 17, f"{quarter / 4:g}", MUTED, size=11, anchor="middle"))
    for index, row in enumerate(scores):
        body += _score_row(row, rows_top + index * _SCORE_ROW)
    return bottom + 34


def _score_row(row: _Score, top: int) -> Iterator[str]:
    middle = top + _SCORE_ROW / 2
    colour = BLUE if _reached(row) else RED
    yield svg.text(MARGIN, middle - 2, row.label, bold=True, size=14)
    yield svg.text(MARGIN, middle + 14, svg.fit(row.note, 11.5, _PLOT_LEFT - MARGIN - 14), MUTED, size=11.5)
    if row.threshold is not None:
        x = _x(row.threshold)
        yield svg.line(x, top + 4, x, top + _SCORE_ROW - 4, INK, 1.6, dashed=True)
    if row.incumbent is not None:
        yield from _whisker(row.incumbent, middle + 10, GREY, 1.6)
        yield svg.dot(_x(row.incumbent.value), middle + 10, 4.5, "#ffffff", GREY, 2)
    yield from _whisker(row.candidate, middle - 7, colour, 3)
    yield svg.dot(_x(row.candidate.value), middle - 7, 7, colour, "#ffffff", 1.5)
    candidate, incumbent, threshold = _VALUE_COLUMNS
    value, limit = format_beside(row.candidate.value, row.threshold)
    yield svg.text(candidate, middle + 5, value, colour, size=16, bold=True, anchor="end")
    yield svg.text(incumbent, middle + 5, f"{row.incumbent.value:.3f}" if row.incumbent else "-", MUTED, anchor="end")
    if row.threshold is not None:
        result, shade = ("reached", GREEN) if _reached(row) else ("missed", RED)
        yield svg.text(threshold, middle - 2, limit, anchor="end")
        yield svg.text(threshold, middle + 14, result, shade, size=11.5, bold=True, anchor="end")


def _whisker(estimate: Estimate, y: float, colour: str, width: float) -> Iterator[str]:
    low, high = _x(estimate.low), _x(estimate.high)
    yield svg.line(low, y, high, y, colour, width)
    for x in (low, high):
        yield svg.line(x, y - 4, x, y + 4, colour, width * 0.75)


def _capability_panel(capabilities: Sequence[_Capability], top: int, body: list[str]) -> int:
    columns = [(s, name) for s, name in SECTIONS if any(s in capability.counts for capability in capabilities)]
    slot = (WIDTH - MARGIN - _BARS_LEFT - _BAR_GAP * (len(columns) - 1)) / len(columns)
    body.append(svg.line(MARGIN, top, WIDTH - MARGIN, top, RULE))
    header = top + 27
    body.append(svg.text(MARGIN, header, "Cases passed, weakest first", bold=True))
    lefts = [_BARS_LEFT + index * (slot + _BAR_GAP) for index in range(len(columns))]
    for x, (_, name) in zip(lefts, columns, strict=True):
        body.append(svg.text(x, header, name, MUTED, size=12))
    y = float(header + 12)
    for capability in capabilities:
        body.append(svg.text(MARGIN, y + 15, svg.fit_name(capability.name, 13, _BARS_LEFT - MARGIN - 16)))
        for x, (section, _) in zip(lefts, columns, strict=True):
            if section in capability.counts:
                body += _bar(capability, section, x, y + 4, slot - _COUNT_WIDTH)
        y += _CAPABILITY_ROW
    return round(y) + 14


def _bar(capability: _Capability, section: Section, x_left: float, top: float, width: float) -> Iterator[str]:
    passed, total = capability.counts[section]
    share = passed / total
    before = capability.before.get(section)
    prior = before[0] / before[1] if before and before[1] else None
    colour = AMBER if prior is not None and share < prior else BLUE
    place = f'x="{svg.number(x_left)}" y="{svg.number(top)}" height="14" rx="3"'
    yield f'<rect {place} width="{svg.number(width)}" fill="{TRACK}"/>'
    if passed:
        yield f'<rect {place} width="{svg.number(width * share)}" fill="{colour}" fill-opacity="0.72"/>'
    if prior is not None:
        x = x_left + width * prior
        yield svg.line(x, top - 3, x, top + 17, INK, 2)
    yield svg.text(x_left + width + 8, top + 11.5, f"{passed}/{total}", size=12)


def _footer(evidence: Evidence, top: int, body: list[str]) -> int:
    headline = evidence.candidate.headline
    body.append(svg.line(MARGIN, top, WIDTH - MARGIN, top, RULE))
    y = top + 5
    open_checks = {check.name: check for check in headline.checks if check.outcome != "PASS"}
    lines = [(f"{check.outcome}: {check.sentence}", VERDICT_COLOURS[check.outcome]) for check in open_checks.values()]
    if "regressions" not in open_checks:
        lines.append((_regressions(evidence), INK))
    if headline.difference is not None and "non-inferiority" not in open_checks:
        d = headline.difference
        lines.append((f"pass rate against the incumbent {signed(d.value)} [{signed(d.low)}, {signed(d.high)}]", INK))
    for sentence, colour in lines:
        y += 20
        body.append(svg.text(MARGIN, y, svg.fit(sentence, 12, WIDTH - 2 * MARGIN), colour, size=12))
    return _legend(evidence, y + 28, body) + 26


def _legend(evidence: Evidence, y: int, body: list[str]) -> int:
    confidence = f"{evidence.rule.decision.confidence * 100:g}%"
    stroke = f'y1="{y - 11}" y2="{y + 3}" stroke="{INK}"'
    marks = (
        (f'<circle cx="@" cy="{y - 4}" r="6" fill="{BLUE}"/>', f"candidate, {confidence} interval"),
        (
            f'<circle cx="@" cy="{y - 4}" r="4.5" fill="#ffffff" stroke="{GREY}" stroke-width="2"/>',
            svg.fit(f"incumbent ({evidence.incumbent.model})", 12, 200),
        ),
        (f'<line x1="@" x2="@" {stroke} stroke-width="1.6" stroke-dasharray="4 3"/>', "threshold"),
        (f'<line x1="@" x2="@" {stroke} stroke-width="2"/>', "incumbent's share"),
        (f'<circle cx="@" cy="{y - 4}" r="6" fill="{AMBER}" fill-opacity="0.72"/>', "below incumbent"),
    )
    x = float(MARGIN)
    for mark, label in marks:
        body.append(mark.replace("@", svg.number(x + 6)))
        body.append(svg.text(x + 18, y, label, MUTED, size=12))
        x += 18 + svg.measure(label, 12) + 14
    return y


def _x(share: float) -> float:
    return _PLOT_LEFT + (_PLOT_RIGHT - _PLOT_LEFT) * min(1.0, max(0.0, share))
