"""From heartbeats to the figures of a curve. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelsmith.schema.curve import MOST_POINTS, CurveLine, Measure, Point, StageCurve
from modelsmith.training.job import Heartbeat

_DIGITS: Final = 4
"""Digits that count: more says nothing in a picture."""
_WATCHED: Final[tuple[Measure, ...]] = ("reward", "held_in", "content", "kl", "entropy", "length")


def curve_of(beats: Sequence[Heartbeat], stage: int = 1) -> StageCurve | None:
    """What a stage's heartbeats tell; None without any. Of a step taken again after a kill, the last time counts."""
    steps = sorted({beat.step: beat for beat in beats}.values(), key=lambda beat: beat.step)
    points: dict[Measure, list[tuple[int, float]]] = {"loss": [(beat.step, beat.loss) for beat in steps]}
    for beat in steps:
        if beat.measures is None:
            continue
        if beat.measures.held_in_before is not None:
            points.setdefault("held_in", []).append((beat.step - 1, beat.measures.held_in_before))
        for measure in _WATCHED:
            value = getattr(beat.measures, measure)
            if value is not None:
                points.setdefault(measure, []).append((beat.step, value))
    lines = [
        CurveLine(measure=measure, points=_thinned(points[measure]))
        for measure in ("loss", *_WATCHED)
        if points.get(measure)
    ]
    return StageCurve(stage=stage, lines=tuple(lines)) if lines else None


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[Point, ...]:
    """First, last and what lies at even distances between, rounded."""
    points_kept = points
    if len(points) > MOST_POINTS:
        points_kept = [points[round(at * (len(points) - 1) / (MOST_POINTS - 1))] for at in range(MOST_POINTS)]
    return tuple((step, float(f"{value:.{_DIGITS}g}")) for step, value in points_kept)
