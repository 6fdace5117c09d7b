"""The one picture of a promotion: scores with their intervals and thresholds, and each capability beside the incumbent.

A pure function of the evidence: same evidence, same bytes. SVG 1.1, no script, no font file, no reference to anything
outside; a background of its own, so that it reads on light and dark pages. Text stands in columns beside the marks,
never on them, and is cut to its column by estimated width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from modelsmith.schema.base import Section
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.run import Estimate, Headline, SectionScore

WIDTH: Final = 880
MARGIN: Final = 32
SECTIONS: Final[tuple[tuple[Section, str], ...]] = (
    ("core", "Core"),
    ("robustness", "Robustness"),
    ("micro", "Micro"),
    ("held_out", "Held-out"),
)

INK, MUTED, FAINT, RULE, TRACK = "#1f2328", "#59636e", "#d1d9e0", "#e6eaef", "#eef1f4"
BLUE, GREY, RED, AMBER, GREEN = "#0969da", "#6e7781", "#cf222e", "#bc4c00", "#1a7f37"
VERDICT_COLOURS: Final = {"PASS": GREEN, "FAIL": RED, "INCONCLUSIVE": "#9a6700"}
FONT: Final = "-apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans','Liberation Sans',Helvetica,Arial,sans-serif"

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
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-labelledby="title desc" font-family="{FONT}" font-size="13" fill="{INK}">',
        f'<title id="title">{_plain(_title(evidence))}</title>',
        f'<desc id="desc">{_plain(_description(scores, capabilities, evidence))}</desc>',
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="#ffffff" stroke="{FAINT}"/>',
    ]
    return "\n".join([*head, *body, "</svg>", ""])


def _scores(evidence: Evidence) -> tuple[_Score, ...]:
    candidate, incumbent, limits = evidence.candidate.headline, evidence.incumbent.headline, evidence.rule.thresholds
    rows = []
    if candidate.composite.n:
        rows.append(
            _Score(
                "Composite",
                f"score, {_cases(candidate.composite.n)}",
                candidate.composite,
                _known(incumbent.composite),
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
        rows.append(_Score("Held-out", note, candidate.held_out, _known(incumbent.held_out), limits.held_out))
    return tuple(rows)


def _capabilities(evidence: Evidence) -> tuple[_Capability, ...]:
    found: dict[str, _Capability] = {}
    for rate in evidence.candidate.headline.per_capability:
        one = found.setdefault(rate.capability, _Capability(rate.capability, {}, {}))
        one.counts[rate.section] = (rate.passed, rate.total)
    for rate in evidence.incumbent.headline.per_capability:
        if rate.capability in found:
            found[rate.capability].before[rate.section] = (rate.passed, rate.total)
    return tuple(sorted(found.values(), key=lambda one: (one.share(), one.name)))


def _section(headline: Headline, section: Section) -> SectionScore | None:
    return next((score for score in headline.sections if score.section == section), None)


def _known(estimate: Estimate) -> Estimate | None:
    return estimate if estimate.n else None


def _cases(number: int) -> str:
    return f"{number} case{'' if number == 1 else 's'}"


def _title(evidence: Evidence) -> str:
    question = f"{evidence.eval_set} {evidence.eval_set_version}"
    return f"{evidence.specialist} on {question}: {evidence.candidate.headline.verdict}"


def _description(scores: Sequence[_Score], capabilities: Sequence[_Capability], evidence: Evidence) -> str:
    parts = []
    for row in scores:
        text = f"{row.label} {row.candidate.value:.3f}, interval {row.candidate.low:.3f} to {row.candidate.high:.3f}"
        if row.threshold is not None:
            text += f", threshold {row.threshold:.3f} {'reached' if _reached(row) else 'missed'}"
        if row.incumbent is not None:
            text += f", incumbent {row.incumbent.value:.3f}"
        parts.append(text)
    for one in capabilities:
        counts = (f"{name.lower()} {one.counts[s][0]} of {one.counts[s][1]}" for s, name in SECTIONS if s in one.counts)
        parts.append(f"{one.name}: {', '.join(counts)}")
    parts.append(_regressions(evidence))
    return "; ".join(parts) + "."


def _regressions(evidence: Evidence) -> str:
    headline = evidence.candidate.headline
    critical = sum(one.critical for one in headline.regressions)
    text = f"{len(headline.regressions)} of {headline.compared} results that the incumbent passes are lost"
    return f"{text}, {critical} of them critical" if critical else text


def _reached(row: _Score) -> bool:
    return row.threshold is None or row.candidate.value >= row.threshold


def _header(evidence: Evidence, body: list[str]) -> int:
    verdict = evidence.candidate.headline.verdict
    colour = VERDICT_COLOURS[verdict]
    badge = round(_measure(verdict, 15, bold=True)) + 36
    left = WIDTH - MARGIN - badge
    room = left - MARGIN - 24
    subtitle = f"{evidence.cluster} | {evidence.eval_set} {evidence.eval_set_version}"
    body += [
        _text(MARGIN, 47, _fit(evidence.specialist, 22, room, bold=True), size=22, bold=True),
        _text(MARGIN, 70, _fit(subtitle, 13, room), MUTED),
        f'<rect x="{left}" y="28" width="{badge}" height="34" rx="17" fill="{colour}"/>',
        _text(left + badge / 2, 50.5, verdict, "#ffffff", size=15, bold=True, anchor="middle"),
    ]
    return 92


def _score_panel(scores: Sequence[_Score], top: int, body: list[str]) -> int:
    header = top + 18
    rows_top = header + 14
    bottom = rows_top + len(scores) * _SCORE_ROW
    for position, name in zip(_VALUE_COLUMNS, ("candidate", "incumbent", "threshold"), strict=True):
        body.append(_text(position, header, name, MUTED, size=12, anchor="end"))
    body.append(_text(MARGIN, header, "Scores", bold=True))
    for quarter in range(5):
        x = _x(quarter / 4)
        body.append(_line(x, rows_top, x, bottom, RULE))
        body.append(_text(x, bottom + 17, f"{quarter / 4:g}", MUTED, size=11, anchor="middle"))
    for index, row in enumerate(scores):
        body += _score_row(row, rows_top + index * _SCORE_ROW)
    return bottom + 34


def _score_row(row: _Score, top: int) -> Iterator[str]:
    middle = top + _SCORE_ROW / 2
    colour = BLUE if _reached(row) else RED
    yield _text(MARGIN, middle - 2, row.label, bold=True, size=14)
    yield _text(MARGIN, middle + 14, _fit(row.note, 11.5, _PLOT_LEFT - MARGIN - 14), MUTED, size=11.5)
    if row.threshold is not None:
        x = _x(row.threshold)
        yield _line(x, top + 4, x, top + _SCORE_ROW - 4, INK, 1.6, dashed=True)
    if row.incumbent is not None:
        yield from _whisker(row.incumbent, middle + 10, GREY, 1.6)
        yield _dot(_x(row.incumbent.value), middle + 10, 4.5, "#ffffff", GREY, 2)
    yield from _whisker(row.candidate, middle - 7, colour, 3)
    yield _dot(_x(row.candidate.value), middle - 7, 7, colour, "#ffffff", 1.5)
    candidate, incumbent, threshold = _VALUE_COLUMNS
    yield _text(candidate, middle + 5, f"{row.candidate.value:.3f}", colour, size=16, bold=True, anchor="end")
    yield _text(incumbent, middle + 5, f"{row.incumbent.value:.3f}" if row.incumbent else "-", MUTED, anchor="end")
    if row.threshold is not None:
        result, shade = ("reached", GREEN) if _reached(row) else ("missed", RED)
        yield _text(threshold, middle - 2, f"{row.threshold:.3f}", anchor="end")
        yield _text(threshold, middle + 14, result, shade, size=11.5, bold=True, anchor="end")


def _whisker(estimate: Estimate, y: float, colour: str, width: float) -> Iterator[str]:
    low, high = _x(estimate.low), _x(estimate.high)
    yield _line(low, y, high, y, colour, width)
    for x in (low, high):
        yield _line(x, y - 4, x, y + 4, colour, width * 0.75)


def _capability_panel(capabilities: Sequence[_Capability], top: int, body: list[str]) -> int:
    columns = [(s, name) for s, name in SECTIONS if any(s in one.counts for one in capabilities)]
    slot = (WIDTH - MARGIN - _BARS_LEFT - _BAR_GAP * (len(columns) - 1)) / len(columns)
    body.append(_line(MARGIN, top, WIDTH - MARGIN, top, RULE))
    header = top + 27
    body.append(_text(MARGIN, header, "Cases passed, weakest first", bold=True))
    lefts = [_BARS_LEFT + index * (slot + _BAR_GAP) for index in range(len(columns))]
    for left, (_, name) in zip(lefts, columns, strict=True):
        body.append(_text(left, header, name, MUTED, size=12))
    y = float(header + 12)
    for one in capabilities:
        body.append(_text(MARGIN, y + 15, _fit_name(one.name, 13, _BARS_LEFT - MARGIN - 16)))
        for left, (section, _) in zip(lefts, columns, strict=True):
            if section in one.counts:
                body += _bar(one, section, left, y + 4, slot - _COUNT_WIDTH)
        y += _CAPABILITY_ROW
    return round(y) + 14


def _bar(one: _Capability, section: Section, left: float, top: float, width: float) -> Iterator[str]:
    passed, total = one.counts[section]
    share = passed / total
    before = one.before.get(section)
    prior = before[0] / before[1] if before and before[1] else None
    colour = AMBER if prior is not None and share < prior else BLUE
    place = f'x="{_n(left)}" y="{_n(top)}" height="14" rx="3"'
    yield f'<rect {place} width="{_n(width)}" fill="{TRACK}"/>'
    if passed:
        yield f'<rect {place} width="{_n(width * share)}" fill="{colour}" fill-opacity="0.72"/>'
    if prior is not None:
        x = left + width * prior
        yield _line(x, top - 3, x, top + 17, INK, 2)
    yield _text(left + width + 8, top + 11.5, f"{passed}/{total}", size=12)


def _footer(evidence: Evidence, top: int, body: list[str]) -> int:
    headline = evidence.candidate.headline
    body.append(_line(MARGIN, top, WIDTH - MARGIN, top, RULE))
    y = top + 5
    open_checks = {check.name: check for check in headline.checks if check.outcome != "PASS"}
    lines = [(f"{check.outcome}: {check.sentence}", VERDICT_COLOURS[check.outcome]) for check in open_checks.values()]
    if "regressions" not in open_checks:
        lines.append((_regressions(evidence), INK))
    if headline.difference is not None and "non-inferiority" not in open_checks:
        d = headline.difference
        lines.append((f"pass rate against the incumbent {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]", INK))
    for sentence, colour in lines:
        y += 20
        body.append(_text(MARGIN, y, _fit(sentence, 12, WIDTH - 2 * MARGIN), colour, size=12))
    return _legend(evidence, y + 28, body) + 26


def _legend(evidence: Evidence, y: int, body: list[str]) -> int:
    confidence = f"{evidence.rule.decision.confidence * 100:g}%"
    stroke = f'y1="{y - 11}" y2="{y + 3}" stroke="{INK}"'
    marks = (
        (f'<circle cx="@" cy="{y - 4}" r="6" fill="{BLUE}"/>', f"candidate, {confidence} interval"),
        (
            f'<circle cx="@" cy="{y - 4}" r="4.5" fill="#ffffff" stroke="{GREY}" stroke-width="2"/>',
            _fit(f"incumbent ({evidence.incumbent.model})", 12, 200),
        ),
        (f'<line x1="@" x2="@" {stroke} stroke-width="1.6" stroke-dasharray="4 3"/>', "threshold"),
        (f'<line x1="@" x2="@" {stroke} stroke-width="2"/>', "incumbent's share"),
        (f'<circle cx="@" cy="{y - 4}" r="6" fill="{AMBER}" fill-opacity="0.72"/>', "below incumbent"),
    )
    x = float(MARGIN)
    for mark, label in marks:
        body.append(mark.replace("@", _n(x + 6)))
        body.append(_text(x + 18, y, label, MUTED, size=12))
        x += 18 + _measure(label, 12) + 14
    return y


def _x(share: float) -> float:
    return _PLOT_LEFT + (_PLOT_RIGHT - _PLOT_LEFT) * min(1.0, max(0.0, share))


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{colour}" '
        f'stroke-width="{_n(width)}"{dash}/>'
    )


def _text(
    x: float, y: float, content: str, colour: str = INK, size: float = 13, bold: bool = False, anchor: str = "start"
) -> str:
    style = "".join(
        [
            f' fill="{colour}"' if colour != INK else "",
            f' font-size="{_n(size)}"' if size != 13 else "",
            ' font-weight="600"' if bold else "",
            f' text-anchor="{anchor}"' if anchor != "start" else "",
        ]
    )
    return f'<text x="{_n(x)}" y="{_n(y)}"{style}>{_plain(content)}</text>'


def _dot(x: float, y: float, radius: float, fill: str, stroke: str, width: float) -> str:
    return (
        f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="{_n(width)}"/>'
    )


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _plain(text: str) -> str:
    return escape("".join(c for c in text if c.isprintable()), quote=False)


_NARROW, _WIDE = "fijlrtI.,:;|'!()[]/- ", "mwMW@%"


def _measure(text: str, size: float, bold: bool = False) -> float:
    """A generous estimate of a text's width in pixels, for sans-serif fonts of any system."""
    units = sum(0.36 if c in _NARROW else 0.9 if c in _WIDE else 0.7 if c.isupper() else 0.6 for c in text)
    return units * size * (1.06 if bold else 1.0)


def _fit(text: str, size: float, room: float, bold: bool = False) -> str:
    """The text, cut and ended by an ellipsis when it is wider than the room."""
    if _measure(text, size, bold) <= room:
        return text
    while text and _measure(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _fit_name(text: str, size: float, room: float) -> str:
    """The name, shortened in its middle: names that begin alike often differ at their end."""
    if _measure(text, size) <= room:
        return text
    head, tail = text[: len(text) // 2], text[len(text) // 2 :]
    while _measure(f"{head}…{tail}", size) > room and tail:
        head, tail = (head[:-1], tail) if len(head) > len(tail) else (head, tail[1:])
    return f"{head}…{tail}"
