"""Views of a change of the eval set: what differs, what it does to verdicts, and the eval of what changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Part, Styled
from modelsmith.cli.tables import interval, styled_outcome

if TYPE_CHECKING:
    from modelsmith.operations.diff_rubric import DiffRubricResult
    from modelsmith.operations.eval_changes import EvalChangesResult
    from modelsmith.operations.evaluate import EvalResult
    from modelsmith.schema.change import Effect, SetChange
    from modelsmith.schema.run import Estimate

_MARKS = {"added": Styled("+", "green"), "removed": Styled("-", "red"), "changed": Styled("~", "yellow")}
_SHOWN = 20
"""Scenarios and flips that are listed; the rest is counted."""


def set_change_view(change: SetChange, page: Page) -> None:
    """Points, settings and scenarios that differ."""
    sentences = (*change.settings, *change.gate, *(f"labels: {sentence}" for sentence in change.labels))
    if not (change.points or change.scenarios or sentences):
        page.line("nothing changed")
    for point in change.points:
        page.line(_MARKS[point.kind], " point ", Styled(point.point, "bold"))
        for sentence in point.sentences:
            page.line(sentence, indent=3)
    for sentence in sentences:
        page.line(_MARKS["changed"], f" {sentence}")
    lines: list[Sequence[Part]] = []
    for scenario in change.scenarios:
        fields = f": {', '.join(scenario.fields)}" if scenario.fields else ""
        unscored = "" if scenario.scored else " (nothing that is asked or scored)"
        lines.append((_MARKS[scenario.kind], f" {scenario.part.replace('_', '-')} {scenario.id}{fields}{unscored}"))
    _some(lines, "scenarios", page, indent=1)


def diff_rubric_view(result: DiffRubricResult, page: Page) -> None:
    """Page of what ``modelsmith diff-rubric`` gives."""
    page.gap()
    set_change_view(result.change, page)
    page.gap()
    if not result.effects:
        page.line(f"no specialist of {result.cluster} was accepted yet, so no verdict can flip")
    for effect in result.effects:
        _effect(effect, page)


def change_eval_view(result: EvalResult, page: Page) -> None:
    """Write what ``eval --changed-since`` adds to the run's view."""
    page.gap()
    assert result.change is not None
    set_change_view(result.change, page)
    page.gap()
    page.line(result.sentence)
    if result.run is None:
        page.line("no scenario has to be asked")
    if result.whole is None:
        page.line("no verdict on the whole set")
        return
    page.line("the whole set:")
    for name, score in (("composite", result.whole.composite), ("held-out", result.whole.held_out)):
        page.line(f"{name:<9}  {interval(score)}", indent=2)
    for check in result.whole.checks:
        page.line(styled_outcome(check.outcome), f"  {check.sentence}", indent=2)
    page.line("verdict  ", styled_outcome(result.whole.verdict))


def eval_changes_view(result: EvalChangesResult, page: Page) -> None:
    """Page of what ``modelsmith eval-changes`` gives."""
    if not result.evals:
        page.line(f"no eval set and no cluster's settings differ from {result.since[:12]}")
    for evaluated in result.evals:
        page.gap()
        page.line(Styled(f"{evaluated.cluster}, {evaluated.model}", "bold"), f": {evaluated.sentence}")
        if evaluated.error:
            page.line(evaluated.error.mend, indent=2)
        page.line(f"executed   {evaluated.executed}", indent=2)
        if evaluated.whole:
            for name, score in (("composite", evaluated.whole.composite), ("held-out", evaluated.whole.held_out)):
                page.line(f"{name:<9}  {interval(score)}", indent=2)
            for check in evaluated.whole.checks:
                page.line(styled_outcome(check.outcome), f"  {check.sentence}", indent=2)
            page.line("verdict    ", styled_outcome(evaluated.whole.verdict), indent=2)
    for change in result.changes:
        page.gap()
        page.line(Styled(change.cluster, "bold"))
        if change.change:
            set_change_view(change.change, page)
        for effect in change.effects:
            _effect(effect, page)
    if result.page:
        page.line(f"page written to {result.page}")


def _effect(effect: Effect, page: Page) -> None:
    after = styled_outcome(effect.after) if effect.after else "unknown"
    page.line(Styled(effect.specialist, "bold"), f" ({effect.state}): ", styled_outcome(effect.before), " -> ", after)
    page.line(effect.sentence, indent=2)
    for name, (before, now) in (("composite", effect.composite), ("held-out", effect.held_out)):
        if now is not None and now != before:
            page.line(f"{name} {before.value:.3f} -> {now.value:.3f}", indent=2)
    was, is_now = effect.kappa
    if was != is_now:
        page.line(f"kappa {_kappa(was)} -> {_kappa(is_now)}", indent=2)
    for flip in effect.point_flips:
        page.line(f"point {flip.point}: {flip.gained} gained, {flip.lost} lost", indent=2)
    lines: list[Sequence[Part]] = []
    for change in effect.flips:
        mark = _MARKS["added" if change.direction == "gained" else "removed"]
        critical = ", critical" if change.critical else ""
        lines.append((mark, f" {change.section.replace('_', '-')} {change.id}{critical}: {', '.join(change.points)}"))
    _some(lines, "flips", page, indent=2)
    page.gap()


def _kappa(kappa: Estimate | None) -> str:
    return f"{kappa.value:.3f}" if kappa else "not known"


def _some(lines: Sequence[Sequence[Part]], noun: str, page: Page, indent: int) -> None:
    for line in lines[:_SHOWN]:
        page.line(*line, indent=indent)
    if len(lines) > _SHOWN:
        page.line(f"and {len(lines) - _SHOWN} more {noun} (--json has all)")
