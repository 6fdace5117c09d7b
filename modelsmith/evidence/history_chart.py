"""The picture of a cluster's composite history: intervals, thresholds, the base model, and where the question changed.

A pure function of the history: same history, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Final

from modelsmith.evidence import svg
from modelsmith.evidence.composite_history import BASE, CompositeHistory, HistoryEntry
from modelsmith.evidence.svg import AMBER, BLUE, GREEN, GREY, INK, MARGIN, MUTED, RED, RULE, WIDTH
from modelsmith.schema.figures import format_apart

_SHOWN: Final = 20
"""Runs in the picture: the latest."""
_CHANGES_SHOWN: Final = 4
_LEFT, _RIGHT = MARGIN + 34, WIDTH - MARGIN
_TOP, _BOTTOM = 132, 372
_COLOURS: Final = {"PASS": BLUE, "FAIL": RED, "INCONCLUSIVE": AMBER}
_WORDS: Final = {"PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "open"}
_GONE: Final = frozenset({"rolled-back", "deprecated"})


def history_chart(history: CompositeHistory) -> str:
    """The picture as SVG text."""
    entries = history.entries[-_SHOWN:]
    step = (_RIGHT - _LEFT) / max(1, len(entries))
    places = {entry.number: _LEFT + step * (index + 0.5) for index, entry in enumerate(entries)}
    body: list[str] = [*_header(history, len(entries)), *_grid()]
    for _, inside in groupby(entries, key=lambda entry: entry.question):
        body += _span(history, tuple(inside), places, step)
    for entry in entries:
        body.append(svg.group(_tip(entry), _run(entry, places[entry.number])))
    height = _footer(history, entries, places, step, body)
    return svg.picture(height, f"Composite history of {history.cluster}", _description(history), body)


def _description(history: CompositeHistory) -> str:
    if not history.entries:
        return "No complete run yet."
    return " ".join(
        [*(f"{_tip(entry)}." for entry in history.entries), *(change.sentence for change in history.changes)]
    )


def _tip(entry: HistoryEntry) -> str:
    composite = entry.composite
    value, limit = format_apart(composite.value, entry.threshold)
    parts = [
        f"Run {entry.number}, {entry.model}, question {entry.question}: composite {value}, "
        f"interval {composite.low:.3f} to {composite.high:.3f}, threshold {limit}, "
        f"held-out {entry.held_out.value:.3f}, {entry.verdict}"
    ]
    parts += [f"{later.verdict} by a later rule, threshold {later.threshold:g}" for later in entry.rejudged]
    if entry.overridden:
        parts.append("overridden by a person")
    if not entry.complete:
        parts.append("not complete")
    if entry.events:
        parts.append(", ".join(entry.events))
    if entry.serves:
        parts.append(f"serves {entry.serves:.0%} now")
    return "; ".join(parts)


def _header(history: CompositeHistory, count: int) -> Iterator[str]:
    room = WIDTH - 2 * MARGIN
    serving = ", ".join(f"{model} {share:.0%}" for model, share in history.serving.items())
    total = len(history.entries)
    counted = f"{total} run{'' if total == 1 else 's'}" + (f", the latest {count} shown" if count < total else "")
    yield svg.text(MARGIN, 47, svg.fit(f"Composite history of {history.cluster}", 22, room, bold=True), INK, 22, True)
    yield svg.text(MARGIN, 70, svg.fit(f"Serves now: {serving} | {counted}", 13, room), MUTED)
    marks = (
        (svg.dot(MARGIN + 7, 94, 5.5, BLUE, "#ffffff", 1.5), "composite, interval"),
        (svg.dot(MARGIN + 7, 94, 4, "#ffffff", GREY, 2), "base model"),
        (_square(MARGIN + 7, 94), "held-out"),
        (svg.line(MARGIN, 94, MARGIN + 14, 94, INK, 1.6, dashed=True), "threshold"),
        (svg.dot(MARGIN + 7, 94, 6.5, "none", GREEN, 2), "deployed"),
        (_cross(MARGIN + 7, 94), "rolled back or retired"),
    )
    x = 0.0
    for mark, label in marks:
        yield f'<g transform="translate({svg.number(x)} 0)">{mark}</g>'
        yield svg.text(MARGIN + x + 22, 98, label, MUTED, size=12)
        x += 22 + svg.measure(label, 12) + 16


def _grid() -> Iterator[str]:
    for quarter in range(5):
        y = _y(quarter / 4)
        yield svg.line(_LEFT, y, _RIGHT, y, RULE)
        yield svg.text(_LEFT - 8, y + 4, f"{quarter / 4:g}", MUTED, size=11, anchor="end")


def _span(
    history: CompositeHistory, inside: Sequence[HistoryEntry], places: dict[int, float], step: float
) -> Iterator[str]:
    """What runs on one question share: the line through its specialists, the base model, the threshold."""
    x_left, right = places[inside[0].number] - step / 2, places[inside[-1].number] + step / 2
    if x_left > _LEFT + 1:
        yield svg.line(x_left, _TOP - 12, x_left, _BOTTOM + 46, MUTED, 1.2, dashed=True)
    room = right - x_left - 8
    label = next(name for name in (f"question {inside[0].question}", f"q{inside[0].question}", "") if fits(name, room))
    yield svg.text(x_left + 4, _TOP - 6, label, MUTED, size=11)
    reference = history.questions[inside[0].question - 1].reference
    if reference is not None:
        yield svg.line(x_left, _y(reference.value), right, _y(reference.value), GREY, 1.6)
    for threshold, entries in groupby(inside, key=lambda entry: entry.threshold):
        numbers = [entry.number for entry in entries]
        start, end = places[numbers[0]] - step / 2, places[numbers[-1]] + step / 2
        yield svg.line(start, _y(threshold), end, _y(threshold), INK, 1.6, dashed=True)
    line = [entry for entry in inside if entry.complete and entry.model != BASE]
    for earlier, other in pairwise(line):
        yield svg.line(
            places[earlier.number],
            _y(earlier.composite.value),
            places[other.number],
            _y(other.composite.value),
            BLUE,
            2,
        )


def fits(label: str, room: float) -> bool:
    """Whether a small label has room."""
    return not label or svg.measure(label, 11) <= room


def _run(entry: HistoryEntry, x: float) -> Iterator[str]:
    base = entry.model == BASE
    colour = GREY if base else _COLOURS[entry.verdict]
    low, high, y = _y(entry.composite.low), _y(entry.composite.high), _y(entry.composite.value)
    yield svg.line(x, low, x, high, colour, 2)
    for end in (low, high):
        yield svg.line(x - 4, end, x + 4, end, colour, 1.6)
    if entry.held_out.n:
        yield _square(x + 8, _y(entry.held_out.value))
    if base:
        yield svg.dot(x, y, 4, "#ffffff", GREY, 2)
    elif entry.complete:
        yield svg.dot(x, y, 5.5, colour, "#ffffff", 1.5)
    else:
        yield svg.dot(x, y, 5, "#ffffff", colour, 2)
    if "customer-deployed" in entry.events:
        yield svg.dot(x, y, 8.5, "none", GREEN, 2)
    if _GONE & set(entry.events):
        yield _cross(x, y)
    yield svg.text(x, _BOTTOM + 18, BASE if base else entry.model.split("-")[1], INK, 11, entry.serves > 0, "middle")
    word = "overridden" if entry.overridden else _WORDS[entry.verdict] if entry.complete else "part"
    yield svg.text(x, _BOTTOM + 32, word, MUTED, 10, anchor="middle")
    if entry.serves:
        yield svg.text(x, _BOTTOM + 45, f"{entry.serves:.0%}", GREEN, 10, bold=True, anchor="middle")


def _footer(
    history: CompositeHistory, entries: Sequence[HistoryEntry], places: dict[int, float], step: float, body: list[str]
) -> int:
    y = _BOTTOM + 46
    if not entries:
        middle = (_TOP + _BOTTOM) / 2
        body.append(svg.text(WIDTH / 2, middle - 6, "No complete run yet.", MUTED, anchor="middle"))
        return y
    if any(entry.serves for entry in entries):
        body.append(svg.text(MARGIN, _BOTTOM + 45, "serves", GREEN, 10, bold=True))
    changes = [change for change in history.changes if change.number in places]
    lines = [change.sentence for change in changes[-_CHANGES_SHOWN:]]
    if len(history.changes) > len(lines):
        lines.append(f"The question changed {len(history.changes) - len(lines)} more times before.")
    for sentence in lines:
        y += 20
        body.append(svg.text(MARGIN, y, svg.fit(sentence, 12, WIDTH - 2 * MARGIN), INK, 12))
    return y + 22


def _square(x: float, y: float) -> str:
    return f'<rect x="{svg.number(x - 3)}" y="{svg.number(y - 3)}" width="6" height="6" fill="{GREEN}"/>'


def _cross(x: float, y: float) -> str:
    lines = (svg.line(x - 6, y - 6, x + 6, y + 6, INK, 2), svg.line(x - 6, y + 6, x + 6, y - 6, INK, 2))
    return "".join(lines)


def _y(value: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * min(1.0, max(0.0, value))
