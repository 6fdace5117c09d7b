"""The picture of a training: loss; of one by reward also reward beside the greedy score, KL, entropy and length.

A pure function of the heartbeats: same heartbeats, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from modelsmith.evidence import svg
from modelsmith.evidence.svg import AMBER, BLUE, GREEN, INK, MARGIN, MUTED, RULE, WIDTH
from modelsmith.training.job import Heartbeat

_COLUMN: Final = (WIDTH - 3 * MARGIN) / 2
_PLOT: Final = 130
_ROW: Final = 200
_TOP: Final = 96


class _Line(NamedTuple):
    label: str
    colour: str
    points: list[tuple[int, float]]


class _Panel(NamedTuple):
    title: str
    lines: list[_Line]
    share: bool
    """From 0 to 1, whatever the values."""


def training_curve(beats: Sequence[Heartbeat], title: str) -> str:
    """The picture as SVG text. Of a step that was taken again after a kill, the last time counts."""
    steps = sorted({beat.step: beat for beat in beats}.values(), key=lambda beat: beat.step)
    panels = [panel for panel in _panels(steps) if any(line.points for line in panel.lines)]
    body = [
        svg.text(MARGIN, 47, svg.fit(title, 22, WIDTH - 2 * MARGIN, bold=True), INK, 22, True),
        svg.text(MARGIN, 70, _summary(steps), MUTED),
    ]
    last = max((beat.steps for beat in steps), default=1)
    for number, panel in enumerate(panels):
        left, top = MARGIN + (number % 2) * (_COLUMN + MARGIN), _TOP + (number // 2) * _ROW
        body += _drawn(panel, left, top, last)
    height = _TOP + max(1, -(-len(panels) // 2)) * _ROW
    said = "; ".join(f"{line.label} {_ends(line)}" for panel in panels for line in panel.lines if line.points)
    return svg.picture(height, title, said or "No step yet.", body)


def _panels(beats: Sequence[Heartbeat]) -> Iterator[_Panel]:
    def of(read: Callable[[Heartbeat], float | None]) -> list[tuple[int, float]]:
        return [(beat.step, value) for beat in beats if (value := read(beat)) is not None]

    yield _Panel("Loss", [_Line("loss", BLUE, of(lambda beat: beat.loss))], False)
    before = [
        (0, beat.measures.held_in_before)
        for beat in beats
        if beat.measures and beat.measures.held_in_before is not None
    ]
    held_in = [*before, *of(lambda beat: beat.measures.held_in if beat.measures else None)]
    reward = _Line("sampled reward", AMBER, of(lambda beat: beat.measures.reward if beat.measures else None))
    yield _Panel("Reward", [reward, _Line("greedy, held in", GREEN, held_in)], True)
    for name, read in (
        ("KL, nats a token", lambda beat: beat.measures.kl if beat.measures else None),
        ("Entropy, nats a token", lambda beat: beat.measures.entropy if beat.measures else None),
        ("Length, tokens", lambda beat: beat.measures.length if beat.measures else None),
    ):
        yield _Panel(name, [_Line(name.split(",")[0], BLUE, of(read))], False)


def _drawn(panel: _Panel, left: float, top: float, last: int) -> Iterator[str]:
    values = [value for line in panel.lines for _, value in line.points]
    low, high = (0.0, 1.0) if panel.share else (min(0.0, *values, 0.0), max(*values, 1e-9))
    begin, end, floor = left + 44, left + _COLUMN, top + 24 + _PLOT
    yield svg.text(left, top + 8, panel.title, INK, 13, True)
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
        marks = [svg.line(*one, *other, line.colour, 1.6) for one, other in pairwise(placed)]
        marks += [svg.dot(*place, 2.2, line.colour, "none", 0) for place in placed] if len(placed) < 40 else []
        if placed:
            yield svg.group(f"{line.label} {_ends(line)}", marks)


def _ends(line: _Line) -> str:
    (first, begin), (last, end) = line.points[0], line.points[-1]
    return f"{begin:.3f} at step {first} to {end:.3f} at step {last}"


def _summary(beats: Sequence[Heartbeat]) -> str:
    return f"{beats[-1].step} of {beats[-1].steps} steps" if beats else "No step yet."
