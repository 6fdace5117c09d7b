"""What differs between two versions of an eval set, in words that a domain lead reads. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Literal, get_args

from pydantic import BaseModel

from modelsmith.evaluation.scoring import judged_points
from modelsmith.schema.change import Kind, PointChange, ScenarioChange, SetChange
from modelsmith.schema.evalset import Thresholds
from modelsmith.schema.governed_set import GovernedSet, scenario_digest
from modelsmith.schema.rubric import RubricPoint
from modelsmith.schema.scenario import Scenario

Part = Literal["scenarios", "micro", "held_out"]
_SHOWN = 80
"""Characters up to which a value is shown whole; what differs of a longer one has three times as many."""
_AROUND = 24
"""Characters shown before and after what differs."""
_ABSENT = object()
_NOT_SETTINGS = {"id", "domain", "owner", "description", "version", "rubric"}


def set_change(
    old: GovernedSet | None, new: GovernedSet, gates: tuple[Thresholds, Thresholds] | None = None
) -> SetChange:
    """Every difference that a reviewer judges; without an old version everything is new.

    ``gates`` are the cluster's own thresholds, before and after.
    """
    return SetChange(
        points=tuple(_points(old, new)),
        scenarios=tuple(_scenarios(old, new)),
        settings=tuple(_settings(old, new)) if old else (),
        labels=tuple(_labels(old, new)) if old else (),
        gate=tuple(f"gate.{sentence}" for sentence in _differences(*gates)) if gates else (),
    )


def changed_ids(change: SetChange) -> tuple[str, ...]:
    """Ids of the scenarios that are asked or scored otherwise, sorted; those that are gone are not among them."""
    return tuple(
        sorted({scenario.id for scenario in change.scenarios if scenario.kind != "removed" and scenario.scored})
    )


def _points(old: GovernedSet | None, new: GovernedSet) -> Iterator[PointChange]:
    before = {point.id: point for point in old.rubric.points} if old else {}
    after = {point.id: point for point in new.rubric.points}
    shares = (_shares(before.values()), _shares(after.values()))
    for name in (*after, *(removed for removed in before if removed not in after)):
        if name not in before:
            point = after[name]
            required = "required" if point.required else "not required"
            sentences = [f"{point.text} ({point.check.type}, {shares[1][name]:.0%} of the score, {required})"]
            yield PointChange(point=name, kind="added", sentences=tuple(sentences))
        elif name not in after:
            sentences = [f"{before[name].text} ({shares[0][name]:.0%} of the score)"]
            yield PointChange(point=name, kind="removed", sentences=tuple(sentences))
        elif differences := [*_differences(before[name], after[name]), *_share(name, *shares)]:
            yield PointChange(point=name, kind="changed", sentences=tuple(differences))


def _shares(points: Iterable[RubricPoint]) -> dict[str, float]:
    weights = {point.id: point.weight for point in points}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _share(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    if abs(before[name] - after[name]) < 1e-12:
        return []
    return [f"share of the score: {before[name]:.0%} -> {after[name]:.0%}"]


def _scenarios(old: GovernedSet | None, new: GovernedSet) -> Iterator[ScenarioChange]:
    before, after = _by_id(old) if old else {}, _by_id(new)
    judged = {point.id for point in judged_points(new.rubric)}
    for name in sorted({*before, *after}):
        then, now = before.get(name), after.get(name)
        if now is None and then is not None:
            yield ScenarioChange(id=name, part=then[0], kind="removed", fields=(), scored=True)
        elif then is None and now is not None:
            yield ScenarioChange(id=name, part=now[0], kind="added", fields=(), scored=True)
        elif then is not None and now is not None and then != now:
            (was, old_scenario), (part, scenario) = then, now
            fields = [
                field for field in Scenario.model_fields if getattr(old_scenario, field) != getattr(scenario, field)
            ]
            if was != part:
                fields.insert(0, f"moved from {was} to {part}")
            scored = was != part or _scored(old_scenario, judged) != _scored(scenario, judged)
            kind: Kind = "changed"
            yield ScenarioChange(id=name, part=part, kind=kind, fields=tuple(fields), scored=scored)


def _scored(scenario: Scenario, judged: Set[str]) -> object:
    """What is asked or scored: the scored content, and the words by which a judge tells right from wrong."""
    return scenario_digest(scenario), [criterion for criterion in scenario.criteria if criterion.point in judged]


def _by_id(governed: GovernedSet) -> dict[str, tuple[Part, Scenario]]:
    parts: dict[Part, tuple[Scenario, ...]] = {
        "scenarios": governed.core,
        "micro": governed.micro,
        "held_out": governed.held_out,
    }
    return {scenario.id: (part, scenario) for part in get_args(Part) for scenario in parts[part]}


def _settings(old: GovernedSet, new: GovernedSet) -> Iterator[str]:
    for field in type(new.evalset).model_fields:
        if field not in _NOT_SETTINGS:
            then, now = getattr(old.evalset, field), getattr(new.evalset, field)
            if isinstance(then, BaseModel) and isinstance(now, BaseModel):
                yield from (f"{field}.{sentence}" for sentence in _differences(then, now))
            elif then != now:
                yield f"{field}: {_turned(then, now)}"


def _labels(old: GovernedSet, new: GovernedSet) -> Iterator[str]:
    """Labelled answers by scenario and point; one whose verdict turned is neither new nor gone."""
    before, after = (
        {(label.scenario, label.point, label.answer): label.verdict for label in governed.labels}
        for governed in (old, new)
    )
    turned = Counter(
        (scenario, point, f"{before[key]} -> {verdict}")
        for key, verdict in after.items()
        for scenario, point, _ in [key]
        if key in before and before[key] != verdict
    )
    added = Counter((*key[:2], "added") for key in after.keys() - before.keys())
    removed = Counter((*key[:2], "removed") for key in before.keys() - after.keys())
    for (scenario, point, difference), count in sorted((turned + added + removed).items()):
        yield f"{scenario}, {point}: {count} labelled answer{'s' if count > 1 else ''} {difference}"


def _differences(old: BaseModel, new: BaseModel) -> list[str]:
    """One sentence for each value that is not what it was, named by its dotted path."""
    then, now = (dict(_leaves(model.model_dump(mode="json", by_alias=True))) for model in (old, new))
    return [
        f"{path}: {_turned(then.get(path, _ABSENT), now.get(path, _ABSENT))}"
        for path in {**then, **now}
        if then.get(path, _ABSENT) != now.get(path, _ABSENT)
    ]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inside in value.items():
            yield from _leaves(inside, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _turned(then: Any, now: Any) -> str:
    """Both values; of long ones the part that differs, with a little of what stands around it."""
    old, new = _text(then), _text(now)
    if max(len(old), len(new)) <= _SHOWN:
        return f"{old} -> {new}"
    start = _shared(old, new)
    end = min(_shared(old[::-1], new[::-1]), min(len(old), len(new)) - start)
    return f"{_window(old, start, end)} -> {_window(new, start, end)}"


def _shared(text: str, other: str) -> int:
    """With how many equal characters both begin."""
    return next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def _window(text: str, start: int, end: int) -> str:
    """The text without its first ``start`` and last ``end`` characters, but for a few, and not too long."""
    start_at = start - _AROUND if start > 2 * _AROUND else 0
    right = len(text) - (end - _AROUND if end > 2 * _AROUND else 0)
    cut = min(right, start_at + 3 * _SHOWN)
    return f"{'...' if start_at else ''}{text[start_at:cut]}{'...' if cut < len(text) else ''}"


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return json.dumps(value.model_dump(mode="json") if isinstance(value, BaseModel) else value, ensure_ascii=False)
