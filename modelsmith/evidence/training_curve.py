"""The picture of a training: loss; of one by reward also reward beside the greedy score, KL, entropy and length.

A pure function of the figures: same figures, same bytes. One stage in its job's folder, all of them beside the packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from modelsmith.evidence import svg
from modelsmith.evidence.svg import AMBER, BLUE, GREEN, INK, MARGIN, MUTED, RULE, WIDTH
from modelsmith.schema.curve import SHARES, Measure, Point, StageCurve

_COLUMN: Final = (WIDTH - 3 * MARGIN) / 2
_PLOT: Final = 130
_ROW: Final = 200
_HEAD: Final = 64
"""Room above the first stage; each stage's own line of text takes as much as `_NAME`."""
_NAME: Final = 32
_DOTS: Final = 40
"""Points from which on a line has no dots."""
_PANELS: Final[tuple[tuple[str, tuple[tuple[Measure, str, str], ...]], ...]] = (
    ("Loss", (("loss", "loss", BLUE),)),
    (
        "Reward",
        (
            ("reward", "sampled reward", AMBER),
            ("held_in", "greedy, held in", GREEN),
            ("content", "points of content", BLUE),
        ),
    ),
    ("KL, nats a token", (("kl", "KL", BLUE),)),
    ("Entropy, nats a token", (("entropy", "Entropy", BLUE),)),
    ("Length, tokens", (("length", "Length", BLUE),)),
)


class StageShown(NamedTuple):
    """A stage as the picture names it."""

    name: str
    steps: int
    """Steps that it was to take."""
    curve: StageCurve


class _Line(NamedTuple):
    label: str
    colour: str
    points: tuple[Point, ...]


class _Panel(NamedTuple):
    title: str
    lines: list[_Line]
    share: bool
    """Whether the axis goes from 0 to 1, whatever the values."""


def training_curve(stages: Sequence[StageShown], title: str) -> str:
    """The picture as SVG text."""
    body = [svg.text(MARGIN, 47, svg.fit(title, 22, WIDTH - 2 * MARGIN, bold=True), INK, 22, True)]
    sentences, top = [], _HEAD
    for stage in stages:
        panels = _panels(stage.curve)
        begin = f"{stage.name}: " if stage.name else ""
        took = f"{begin}{stage.curve.last_step} of {stage.steps} steps"
        body.append(svg.text(MARGIN, top + 6, svg.fit(took, 13, WIDTH - 2 * MARGIN), MUTED))
        top += _NAME
        for number, panel in enumerate(panels):
            x, row = MARGIN + (number % 2) * (_COLUMN + MARGIN), top + (number // 2) * _ROW
            body += _drawn(panel, x, row, max(stage.steps, stage.curve.last_step, 1))
        top += -(-len(panels) // 2) * _ROW
        sentences.append(begin + "; ".join(f"{line.label} {_ends(line)}" for panel in panels for line in panel.lines))
    if not stages:
        body.append(svg.text(MARGIN, _HEAD + 6, "No step yet.", MUTED))
    return svg.picture(max(top, _HEAD + _NAME), title, ". ".join(sentences) or "No step yet.", body)


def _panels(curve: StageCurve) -> list[_Panel]:
    points = {line.measure: line.points for line in curve.lines}
    panels = []
    for title, measures in _PANELS:
        lines = [_Line(label, colour, points[measure]) for measure, label, colour in measures if measure in points]
        if lines:
            panels.append(_Panel(title, lines, measures[0][0] in SHARES))
    return panels


def _drawn(panel: _Panel, column_x: float, top: float, last: int) -> Iterator[str]:
    values = [value for line in panel.lines for _, value in line.points]
    low, high = (0.0, 1.0) if panel.share else (min(0.0, *values, 0.0), max(*values, 1e-9))
    begin, end, floor = column_x + 44, column_x + _COLUMN, top + 24 + _PLOT
    yield svg.text(column_x, top + 8, panel.title, INK, 13, True)
    for part in (0.0, 0.5, 1.0):
        y = floor - _PLOT * part
        yield svg.line(begin, y, end, y, RULE)
        yield svg.text(begin - 6, y + 4, f"{low + (high - low) * part:.3g}", MUTED, 11, anchor="end")
    x = end
    for line in reversed([line for line in panel.lines if len(panel.lines) > 1]):
        yield svg.text(x, top + 8, line.label, line.colour, 11, anchor="end")
        x -= svg.measure(line.label, 11) + 14
    for line in panel.lines:
        placed = [
            (begin + (end - begin) * step / last, floor - _PLOT * (value - low) / (high - low))
            for step, value in line.points
        ]
        marks = [svg.path(placed, line.colour, 1.6)] if len(placed) > 1 else []
        marks += [svg.dot(*place, 2.2, line.colour, "none", 0) for place in placed] if len(placed) < _DOTS else []
        yield svg.group(f"{line.label} {_ends(line)}", marks)


def _ends(line: _Line) -> str:
    (first, begin), (last, end) = line.points[0], line.points[-1]
    return f"{begin:.3f} at step {first} to {end:.3f} at step {last}"
