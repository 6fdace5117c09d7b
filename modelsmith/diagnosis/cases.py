"""What each failed scenario of a run says: the points it misses, what was answered instead, and how.

Only core, robustness and micro observations may come in: a held-out verdict that reached diagnosis would steer training
and end the independence of the held-out score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from modelsmith.points.answers import look_up, read_answer
from modelsmith.schema.base import Slug
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import JsonFieldCheck, JsonSchemaCheck
from modelsmith.schema.run import Observation
from modelsmith.schema.scenario import Scenario
from modelsmith.texts.similarity import words_of

Shape = Literal["empty", "echo", "answer"]
"""What kind of text most failed answers are: nothing, the question over again, or an answer."""


@dataclass(frozen=True)
class Case:
    """A scenario that misses a point in any of its wordings or repeats."""

    scenario: Scenario
    missed: frozenset[Slug]
    own_wording: bool
    """Whether its own wording is among those that fail."""
    unreadable: bool
    cut_off: bool
    wrong: frozenset[tuple[str, str | None, str]]
    """Field, value given (None: none that the set or its generators know) and right value."""
    shape: Shape


@dataclass(frozen=True)
class ReadCases:
    """A run as diagnosis reads it: its failures, and the scenarios that were asked."""

    cases: tuple[Case, ...]
    """Failed scenarios, by id."""
    by_capability: Mapping[Slug, tuple[Scenario, ...]]
    """Scenarios with a verdict, by capability."""


def read_cases(governed: GovernedSet, observations: Iterable[Observation]) -> ReadCases:
    """Every failed scenario of a run, and which were asked.

    Observations that ended in an error carry no verdict and count neither as asked nor as failed.

    Raises:
        IntegrityFailure: ``held-out-in-diagnosis``.
        InvalidInput: ``unknown-scenario``.
    """
    values_by_field, by_capability, cases = _DeclaredValues(governed), dict[Slug, list[Scenario]](), []
    for scenario, answers in _by_scenario(governed, observations).values():
        by_capability.setdefault(scenario.capability, []).append(scenario)
        case = values_by_field.case(scenario, answers)
        if case.missed:
            cases.append(case)
    return ReadCases(tuple(cases), {name: tuple(each) for name, each in by_capability.items()})


def _by_scenario(
    governed: GovernedSet, observations: Iterable[Observation]
) -> dict[Slug, tuple[Scenario, list[Observation]]]:
    held_out = {scenario.id for scenario in governed.held_out}
    scenarios = {scenario.id: scenario for scenario in (*governed.core, *governed.micro)}
    by_scenario: dict[Slug, tuple[Scenario, list[Observation]]] = {}
    for observation in observations:
        section = observation.row.section if observation.row else observation.section
        if "held_out" in (section, observation.section) or observation.id in held_out:
            raise IntegrityFailure(
                "held-out-in-diagnosis",
                "A held-out verdict reached diagnosis, where it would steer training.",
                "Diagnose a run's core, robustness and micro sections only.",
            )
        scenario = scenarios.get(observation.id)
        if scenario is None:
            raise InvalidInput(
                "unknown-scenario",
                f"The run speaks of the scenario {observation.id}, which the eval set does not have.",
                "Run the eval again on the eval set as it is now.",
                scenario=observation.id,
            )
        if observation.row is not None:
            by_scenario.setdefault(observation.id, (scenario, []))[1].append(observation)
    return dict(sorted(by_scenario.items()))


class _DeclaredValues:
    """What the set declares, read once: its fields, its form, and the values that may be named in a sentence.

    Any other value is a model's own text.
    """

    def __init__(self, governed: GovernedSet) -> None:
        points = governed.rubric.points
        self.fields = {point.id: point.check for point in points if isinstance(point.check, JsonFieldCheck)}
        self.formal = {point.id for point in points if isinstance(point.check, JsonSchemaCheck)} | set(self.fields)
        references = [scenario.reference for scenario in (*governed.core, *governed.micro)]
        references += [generator.reference for generator in governed.generators]
        self.values: dict[str, set[str]] = {}
        for check in self.fields.values():
            if check.expected.reference:
                values = (look_up(reference, check.expected.reference) for reference in references)
                self.values.setdefault(check.path, set()).update(_word(value) for value, exists in values if exists)

    def case(self, scenario: Scenario, answers: Sequence[Observation]) -> Case:
        missed: set[Slug] = set()
        wrong: set[tuple[str, str | None, str]] = set()
        own_wording = unreadable = cut_off = False
        shapes: Counter[Shape] = Counter()
        for answer in answers:
            lost = {point for point, passed in answer.row.points.items() if not passed} if answer.row else set()
            if not lost:
                continue
            missed |= lost
            own_wording |= answer.wording == 0
            cut_off |= answer.finish == "length"
            shapes[_shape(scenario, answer.completion)] += 1
            if lost & self.formal:
                value, problem = read_answer(answer.completion)
                unreadable |= bool(problem)
                wrong |= set() if problem else self._wrong(scenario, lost, value)
        shape = shapes.most_common(1)[0][0] if shapes else "answer"
        return Case(scenario, frozenset(missed), own_wording, unreadable, cut_off, frozenset(wrong), shape)

    def _wrong(self, scenario: Scenario, lost: set[Slug], value: JsonValue) -> set[tuple[str, str | None, str]]:
        wrong: set[tuple[str, str | None, str]] = set()
        for point, check in self.fields.items():
            if point not in lost or not check.expected.reference:
                continue
            right, exists_in_reference = look_up(scenario.reference, check.expected.reference)
            value_given, exists = look_up(value, check.path)
            if exists_in_reference and exists:
                word = _word(value_given)
                wrong.add((check.path, word if word in self.values[check.path] else None, _word(right)))
        return wrong


def _shape(scenario: Scenario, completion: str) -> Shape:
    words = words_of(completion[:2000])
    if not words:
        return "empty"
    prompt_words = {word for text in scenario.user_texts() for word in words_of(text)}
    return "echo" if len(words) >= 8 and sum(word in prompt_words for word in words) >= 0.9 * len(words) else "answer"


def _word(value: JsonValue) -> str:
    return value if isinstance(value, str) else repr(value)
