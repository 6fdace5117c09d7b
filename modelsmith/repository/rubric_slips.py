"""One wrong word in a rubric is one mistake, however many files it no longer fits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelsmith.points.answers import look_up
from modelsmith.repository.document import Problem, nearest
from modelsmith.repository.set_files import Source
from modelsmith.schema.generator import Generator
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Scenario

MANY = 3
"""Files with one and the same mistake, from which on it is looked for where they agree."""


@dataclass
class RubricSlips:
    """What is wrong with the rubric itself, and what need not be said of each file again."""

    problems: list[Problem] = field(default_factory=list)
    points: set[str] = field(default_factory=set)
    """Names of points that files use and the rubric lacks."""
    paths: set[str] = field(default_factory=set)
    """Paths into a reference that the rubric names and no file has."""


def rubric_slips(
    rubric: Source[Rubric], scenarios: Sequence[Source[Scenario]], generators: Sequence[Source[Generator]]
) -> RubricSlips:
    """Look for words of the rubric that no file, or names of files that the rubric does not know."""
    result = RubricSlips()
    references = [scenario.value.reference for scenario in scenarios] + [
        generator.value.reference for generator in generators
    ]
    if len(references) >= MANY:
        for problem, path in _paths(rubric, references):
            result.problems.append(problem)
            result.paths.add(path)
    for problem, point in _points(rubric, scenarios, generators):
        result.problems.append(problem)
        result.points.add(point)
    return result


def _paths(rubric: Source[Rubric], references: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Problem, str]]:
    fields = {name for reference in references for name in reference}
    for number, point in enumerate(rubric.value.points):
        path = getattr(getattr(point.check, "expected", None), "reference", None)
        if path is None or any(look_up(dict(reference), path)[1] for reference in references):
            continue
        near = nearest(path, fields)
        mend = f"Did you mean '{near}'?" if near else f"Add {path} to every reference, or correct the path."
        message = f"none of the set's {len(references)} references has '{path}'"
        yield rubric.problem(("points", number, "check", "expected", "reference"), message, mend), path


def _points(
    rubric: Source[Rubric], scenarios: Sequence[Source[Scenario]], generators: Sequence[Source[Generator]]
) -> Iterator[tuple[Problem, str]]:
    numbers = {point.id: number for number, point in enumerate(rubric.value.points)}
    named = Counter(
        point
        for names in (
            *({criterion.point for criterion in scenario.value.criteria} for scenario in scenarios),
            *(set(generator.value.points) for generator in generators),
        )
        for point in names
    )
    for name, count in named.items():
        if name in numbers or count < MANY:
            continue
        near = nearest(name, [word for word in numbers if word not in named])
        at = ("points", numbers[near], "id") if near else ("points",)
        message = f"{count} files name the point '{name}', which the rubric does not have"
        mend = f"Did you mean '{name}' instead of '{near}'?" if near else f"Add it, or correct the {count} files."
        yield rubric.problem(at, message, mend), name
