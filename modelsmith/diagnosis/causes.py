"""Failed cases grouped by root cause: what the points say, then what the answer says, then what the scenario says.

A cause's name is made of declared words only (capability, point, a value that the set knows, a scenario's id), so the
same pattern has the same name in every run, whoever its members are.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from modelsmith.diagnosis.cases import Case, ReadCases
from modelsmith.diagnosis.topics import kept_to, topics
from modelsmith.schema.base import Slug
from modelsmith.schema.diagnosis import CauseKind
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import JsonFieldCheck, RubricPoint
from modelsmith.substrates.embedder import Embedder

APART: Final = 2
"""Cases that make a wrong value a cause of its own; those of fewer stay together as ``various``."""
_LONGEST: Final = 64


class Cause(NamedTuple):
    """Why cases of one capability fail together."""

    capability: Slug
    point: Slug | None
    """The weightiest point that is missed, the rubric's first among equals; None when the form cannot be read."""
    kind: CauseKind
    detail: str = ""
    """The value given, for ``value``; the typical scenario, for ``topic``."""

    @property
    def id(self) -> Slug:
        """``<capability>.<point>.<detail or kind>``, shortened with a digest where that is not a name."""
        exact = ".".join(filter(None, (self.capability, self.point, self.detail or self.kind)))
        name = re.sub(r"[^a-z0-9._-]+", "-", exact.casefold()).strip("._-")
        if name == exact and len(name) <= _LONGEST:
            return name
        return f"{name[: _LONGEST - 9].rstrip('._-')}-{hashlib.sha256(repr((*self,)).encode()).hexdigest()[:8]}"


class Group(NamedTuple):
    """Cases of one cause."""

    cause: Cause
    cases: tuple[Case, ...]
    scenarios: tuple[int, int] | None = None
    """For ``topic``: failed and all scenarios that speak of it."""


class _Topics(NamedTuple):
    """What `topics` is asked with: the cases that were read, and an embedder if policy names one."""

    read: ReadCases
    embedder: Embedder | None


def groups(governed: GovernedSet, cases_read: ReadCases, embedder: Embedder | None) -> Iterator[Group]:
    """The cases by cause; topics by the embedder, and by words without one.

    Raises:
        InfrastructureFailure: ``extra-missing``, see `topics`.
    """
    points = {point.id: point for point in governed.rubric.points}
    together: dict[tuple[Slug, Slug | None], list[Case]] = {}
    for case in cases_read.cases:
        together.setdefault((case.scenario.capability, _weightiest(points, case)), []).append(case)
    for (capability, point), cases in together.items():
        yield from _split(capability, points[point] if point else None, cases, _Topics(cases_read, embedder))


def _weightiest(points: Mapping[Slug, RubricPoint], case: Case) -> Slug | None:
    if case.unreadable and not case.wrong:
        return None
    return max((point for point in points.values() if point.id in case.missed), key=lambda point: point.weight).id


def _split(capability: Slug, point: RubricPoint | None, cases: Sequence[Case], topics_of: _Topics) -> Iterator[Group]:
    if point is None:
        yield Group(Cause(capability, None, "form"), tuple(cases))
        return
    by_cause: dict[Cause, list[Case]] = {}
    for case, kind, detail in _answered(point, cases):
        by_cause.setdefault(Cause(capability, point.id, kind, detail), []).append(case)
    for cause, some in by_cause.items():
        if cause.kind in ("answer", "various"):
            yield from _by_topic(cause, some, topics_of)
        else:
            yield Group(cause, tuple(some))


def _answered(point: RubricPoint, cases: Sequence[Case]) -> Iterator[tuple[Case, CauseKind, str]]:
    """Each case with what was answered instead: the value given most, where the point looks at a declared field."""
    field = point.check.path if isinstance(point.check, JsonFieldCheck) else None
    wrong_values = [{value for path, value, _ in case.wrong if path == field} for case in cases]
    counts = Counter(value for values in wrong_values for value in values)
    typical = [
        max(values, key=lambda choice: (counts[choice], choice or "")) if values else "" for values in wrong_values
    ]
    frequent = {value for value, count in Counter(typical).items() if count >= APART}
    rest = {value for value in typical if value not in frequent}
    named = frequent | (rest if len(rest) == 1 else set())
    for case, values, value in zip(cases, wrong_values, typical, strict=True):
        if not values:
            yield case, case.shape, ""
        elif value not in named:
            yield case, "various", ""
        else:
            yield (case, "unknown-value", "") if value is None else (case, "value", value)


def _by_topic(cause: Cause, cases: Sequence[Case], topics_of: _Topics) -> Iterator[Group]:
    """The cases, those apart that keep to one topic."""
    topic = topics(topics_of.read.by_capability[cause.capability], topics_of.embedder)
    near_topic = kept_to([case.scenario.id for case in cases], topic)
    for name, counts in sorted(near_topic.items()):
        some = tuple(case for case in cases if topic[case.scenario.id] == name)
        yield Group(cause._replace(kind="topic", detail=f"near-{name}"), some, counts)
    rest = tuple(case for case in cases if topic.get(case.scenario.id) not in near_topic)
    if rest:
        yield Group(cause, rest)
