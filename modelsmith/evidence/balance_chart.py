"""The picture of an eval set's balance: for each value of each dimension its part of the composite and of held-out.

A pure function of the balance: same balance, same bytes. It shows ids and counts, never a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Final

from modelsmith.evaluation.corpus.balance import Balance, DimensionBalance, ValueBalance
from modelsmith.evidence import svg
from modelsmith.evidence.svg import AMBER, BLUE, GREY, INK, MARGIN, MUTED, RULE, TRACK, WIDTH
from modelsmith.schema.base import Section

_BARS_LEFT, _BARS_RIGHT = 216, 560
_SHARES: Final = 622
_COLUMNS: Final[tuple[tuple[Section, str, int], ...]] = (
    ("core", "core", 668),
    ("robustness", "rob.", 716),
    ("micro", "micro", 768),
    ("held_out", "held-out", WIDTH - MARGIN),
)
_ROW, _VALUES_SHOWN, _FLAGS_SHOWN = 32, 16, 12
_FLAGGED: Final = frozenset({"overweight", "underweight", "no-held-out", "held-out-only"})


def balance_chart(balance: Balance) -> str:
    """The picture as SVG text."""
    flagged = {(flag.dimension, flag.value) for flag in balance.flags if flag.kind in _FLAGGED}
    reach = max(max(value.composite, value.held_out) for dimension in balance.dimensions for value in dimension.values)
    body: list[str] = []
    top = _header(balance, body)
    for dimension in balance.dimensions:
        top = _panel(dimension, balance, flagged, reach, top, body)
    height = _footer(balance, top, body)
    return svg.picture(height, _title(balance), _description(balance), body)


def _title(balance: Balance) -> str:
    return f"Balance of {balance.eval_set} {balance.version}"


def _description(balance: Balance) -> str:
    parts = [
        f"{dimension.dimension.replace('_', ' ')}: {', '.join(_coverage(value, balance) for value in dimension.values)}"
        for dimension in balance.dimensions
    ]
    return "; ".join([*parts, *(flag.sentence.rstrip(".") for flag in balance.flags)]) + "."


def _coverage(value: ValueBalance, balance: Balance) -> str:
    held_out = f" and {value.held_out:.1%} of held-out" if "held_out" in balance.scenarios else ""
    return f"{value.value} carries {value.composite:.1%} of the composite{held_out}"


def _header(balance: Balance, body: list[str]) -> int:
    counts = [f"{balance.scenarios[section]} {name}" for section, name, _ in _COLUMNS if section in balance.scenarios]
    weights = [f"{section} {weight:.0%}" for section, weight in balance.weights.items()]
    room = WIDTH - 2 * MARGIN
    subtitle = f"Scenarios: {', '.join(counts).replace('rob.', 'robustness')} | composite: {', '.join(weights)}"
    body += [
        svg.text(MARGIN, 47, svg.fit(_title(balance), 22, room, bold=True), size=22, bold=True),
        svg.text(MARGIN, 70, svg.fit(subtitle, 13, room), MUTED),
    ]
    y = 98
    held_out = "held_out" in balance.scenarios
    marks = [
        (svg.bar(MARGIN, y - 10, 14, 9, BLUE), "part of the composite"),
        (svg.bar(MARGIN, y - 10, 14, 9, AMBER), "flagged below"),
        *([(svg.bar(MARGIN, y - 8, 14, 6, GREY), "share of held-out")] if held_out else []),
        (svg.line(MARGIN + 7, y - 12, MARGIN + 7, y + 2, INK, 1.6, dashed=True), "even part"),
    ]
    x = 0.0
    for mark, label in marks:
        body.append(f'<g transform="translate({svg.number(x)} 0)">{mark}</g>')
        body.append(svg.text(MARGIN + x + 22, y, label, MUTED, size=12))
        x += 22 + svg.measure(label, 12) + 22
    return y + 16


def _panel(
    dimension: DimensionBalance,
    balance: Balance,
    flagged: Set[tuple[str | None, str | None]],
    reach: float,
    top: int,
    body: list[str],
) -> int:
    body.append(svg.line(MARGIN, top, WIDTH - MARGIN, top, RULE))
    header = top + 26
    body.append(svg.text(MARGIN, header, dimension.dimension.replace("_", " ").capitalize(), bold=True, size=14))
    for section, name, right in _COLUMNS:
        if section in balance.scenarios:
            body.append(svg.text(right, header, name, MUTED, size=12, anchor="end"))
    y = header + 10
    for value in dimension.values[:_VALUES_SHOWN]:
        colour = AMBER if (dimension.dimension, value.value) in flagged else BLUE
        body.append(svg.group(_tip(value, balance), _row(value, balance, colour, reach, y)))
        y += _ROW
    if len(dimension.values) > 1:
        x = _x(dimension.even, reach)
        body.append(svg.line(x, header + 8, x, y - 4, INK, 1.6, dashed=True))
    if len(dimension.values) > _VALUES_SHOWN:
        body.append(svg.text(MARGIN, y + 14, f"and {len(dimension.values) - _VALUES_SHOWN} more", MUTED, size=12))
        y += 20
    return y + 10


def _tip(value: ValueBalance, balance: Balance) -> str:
    counts = ", ".join(f"{count} {section.replace('_', '-')}" for section, count in value.scenarios.items())
    return f"{_coverage(value, balance)}; {counts}"


def _row(value: ValueBalance, balance: Balance, colour: str, reach: float, top: float) -> Iterator[str]:
    yield svg.text(MARGIN, top + 17, svg.fit_name(value.value, 13, _BARS_LEFT - MARGIN - 14))
    yield svg.bar(_BARS_LEFT, top + 3, _BARS_RIGHT - _BARS_LEFT, 20, TRACK)
    if value.composite:
        yield svg.bar(_BARS_LEFT, top + 3, _x(value.composite, reach) - _BARS_LEFT, 12, colour)
    if value.held_out:
        yield svg.bar(_BARS_LEFT, top + 17, _x(value.held_out, reach) - _BARS_LEFT, 6, GREY)
    yield svg.text(_SHARES, top + 17, f"{value.composite:.1%}", colour, bold=True, anchor="end")
    for section, _, right in _COLUMNS:
        if section in balance.scenarios:
            yield svg.text(right, top + 17, str(value.scenarios[section]), MUTED, size=12, anchor="end")


def _footer(balance: Balance, top: int, body: list[str]) -> int:
    body.append(svg.line(MARGIN, top, WIDTH - MARGIN, top, RULE))
    lines = [(flag.sentence, INK) for flag in balance.flags[:_FLAGS_SHOWN]]
    if len(balance.flags) > _FLAGS_SHOWN:
        lines.append((f"and {len(balance.flags) - _FLAGS_SHOWN} more", MUTED))
    y = top + 6
    for sentence, colour in lines or [("Nothing is flagged.", MUTED)]:
        y += 20
        body.append(svg.text(MARGIN, y, svg.fit(sentence, 12, WIDTH - 2 * MARGIN), colour, size=12))
    return y + 24


def _x(share: float, reach: float) -> float:
    return _BARS_LEFT + (_BARS_RIGHT - _BARS_LEFT) * share / reach
