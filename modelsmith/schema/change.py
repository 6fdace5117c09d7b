"""What a change of an eval set does: to points and scenarios, to verdicts that were given, to who clears the gate."""

from __future__ import annotations

from typing import Literal

from modelsmith.schema.base import Frozen, Slug, State
from modelsmith.schema.comparison import PointFlip, ScenarioFlip
from modelsmith.schema.run import Estimate, Outcome

Kind = Literal["added", "removed", "changed"]


class PointChange(Frozen):
    """One rubric point that is not what it was."""

    point: Slug
    kind: Kind
    sentences: tuple[str, ...]
    """The changes, each in one sentence."""


class ScenarioChange(Frozen):
    """One scenario that is not what it was."""

    id: Slug
    part: Literal["scenarios", "micro", "held_out"]
    """Folder in which it stands now, or stood when it was removed."""
    kind: Kind
    fields: tuple[str, ...]
    """Fields that changed; the texts of held-out scenarios are not shown."""
    scored: bool
    """Whether anything changed that is asked or scored."""


class SetChange(Frozen):
    """Everything that differs between two versions of an eval set."""

    points: tuple[PointChange, ...]
    scenarios: tuple[ScenarioChange, ...]
    settings: tuple[str, ...]
    """What changed in prompt, sampling, judge, weights, thresholds and decision rule, in words."""
    labels: tuple[str, ...] = ()
    """Answers that people label now, no longer, or otherwise, in words; no answer is shown."""
    gate: tuple[str, ...] = ()
    """What changed in the cluster's own thresholds, in words; the stricter of these and the set's hold."""


class Effect(Frozen):
    """Effect of the change on one promoted specialist's evidence."""

    cluster: Slug
    specialist: str
    state: State
    before: Outcome
    after: Outcome | None
    """None when verdicts are missing that only a model can give."""
    composite: tuple[Estimate, Estimate | None]
    """Before and after."""
    held_out: tuple[Estimate, Estimate | None]
    kappa: tuple[Estimate | None, Estimate | None] = (None, None)
    """The judge's agreement with people, before and after; None without a judge, or where it cannot be told."""
    flips: tuple[ScenarioFlip, ...]
    """Scenarios whose verdict the change turns; points that were added or removed count as turned."""
    point_flips: tuple[PointFlip, ...]
    unknown: int
    """Completions, of the specialist or its incumbent, of which a verdict is not known."""
    sentence: str
