"""Views of a change of the eval set: what differs, what it does to verdicts, and the eval of what changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from modelsmith.cli.tables import INDENT, interval, verdict

if TYPE_CHECKING:
    from modelsmith.schema.change import Effect, SetChange

_MARKS = {"added": "[green]+[/]", "removed": "[red]-[/]", "changed": "[yellow]~[/]"}
_SHOWN = 20
"""Scenarios and flips that are listed; the rest is counted."""


def set_change_view(change: SetChange, console: Console) -> None:
    """Points, settings and scenarios that differ."""
    if not (change.points or change.settings or change.scenarios):
        console.print(f"{INDENT}nothing changed")
    for point in change.points:
        console.print(f"{INDENT}{_MARKS[point.kind]} point [bold]{point.point}[/]")
        for sentence in point.sentences:
            console.print(f"{INDENT * 3}{escape(sentence)}")
    for sentence in change.settings:
        console.print(f"{INDENT}{_MARKS['changed']} {escape(sentence)}")
    lines = []
    for one in change.scenarios:
        fields = f": {', '.join(one.fields)}" if one.fields else ""
        unscored = "" if one.scored else " (nothing that is asked or scored)"
        lines.append(f"{_MARKS[one.kind]} {one.part.replace('_', '-')} {one.id}{fields}{unscored}")
    _some(lines, "scenarios", console)


def diff_rubric_view(result: Any, console: Console) -> None:
    """``modelsmith diff-rubric``."""
    console.print()
    set_change_view(result.change, console)
    console.print()
    if not result.effects:
        console.print(f"{INDENT}no specialist of {result.cluster} was accepted yet, so no verdict can flip")
    for effect in result.effects:
        _effect(effect, console)


def change_eval_view(result: Any, console: Console) -> None:
    """What ``eval --changed-since`` says beside the run."""
    console.print()
    set_change_view(result.change, console)
    console.print(f"\n{INDENT}{escape(result.sentence)}")
    if result.run is None:
        console.print(f"{INDENT}no scenario has to be asked")
    if result.whole is None:
        console.print(f"{INDENT}no verdict on the whole set")
        return
    console.print(f"{INDENT}the whole set:")
    for name, score in (("composite", result.whole.composite), ("held-out", result.whole.held_out)):
        console.print(f"{INDENT * 2}{name:<9}  {interval(score)}")
    for check in result.whole.checks:
        console.print(f"{INDENT * 2}{verdict(check.outcome)}  {escape(check.sentence)}")
    console.print(f"{INDENT}verdict  {verdict(result.whole.verdict)}")


def _effect(effect: Effect, console: Console) -> None:
    after = verdict(effect.after) if effect.after else "unknown"
    console.print(f"{INDENT}[bold]{effect.specialist}[/] ({effect.state}): {verdict(effect.before)} -> {after}")
    console.print(f"{INDENT * 2}{escape(effect.sentence)}")
    for name, (before, now) in (("composite", effect.composite), ("held-out", effect.held_out)):
        if now is not None and now != before:
            console.print(f"{INDENT * 2}{name} {before.value:.3f} -> {now.value:.3f}")
    for flip in effect.point_flips:
        console.print(f"{INDENT * 2}point {flip.point}: {flip.gained} gained, {flip.lost} lost")
    lines = []
    for one in effect.flips:
        mark = _MARKS["added" if one.direction == "gained" else "removed"]
        critical = ", critical" if one.critical else ""
        where = f"{one.section.replace('_', '-')} {one.id}{critical}"
        lines.append(f"{INDENT}{mark} {where}: {', '.join(one.points)}")
    _some(lines, "flips", console)
    console.print()


def _some(lines: Sequence[str], noun: str, console: Console) -> None:
    for line in lines[:_SHOWN]:
        console.print(f"{INDENT}{line}")
    if len(lines) > _SHOWN:
        console.print(f"{INDENT}and {len(lines) - _SHOWN} more {noun} (--json has all)")
