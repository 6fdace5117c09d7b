"""The eval set that ships with the repository, and observations invented for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from modelsmith.evaluation.scoring import score_completion
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.base import Section
from modelsmith.schema.governed_set import GovernedSet, scenario_digest
from modelsmith.schema.run import Observation, VerdictRow
from modelsmith.schema.scenario import Scenario


@pytest.fixture(scope="session")
def governed() -> GovernedSet:
    """``evals/adtech/rtb-root-cause``, as it is."""
    return load_eval_set(WorkTree(Path(__file__).parents[2]), "adtech/rtb-root-cause")


Answer = Callable[[Scenario, Section, int], str | None]


@pytest.fixture(scope="session")
def observe(governed: GovernedSet) -> Callable[..., list[Observation]]:
    """Observations of a model that answers as the given function does; None is an error of the engine."""

    def observe(answer: Answer, sections: Sequence[Section] = ("core", "robustness", "micro")) -> list[Observation]:
        found = []
        for section in sections:
            scenarios = {"micro": governed.micro, "held_out": governed.held_out}.get(section, governed.core)
            for scenario in scenarios:
                wordings = range(1, 1 + len(scenario.variants)) if section == "robustness" else range(1)
                found += [_observation(governed, scenario, section, wording, answer) for wording in wordings]
        return found

    return observe


def _observation(
    governed: GovernedSet, scenario: Scenario, section: Section, wording: int, answer: Answer
) -> Observation:
    completion = answer(scenario, section, wording)
    row, reasons = None, {}
    if completion is not None:
        points, reasons = score_completion(governed.rubric, scenario, completion)
        row = VerdictRow(
            section=section,
            scenario=scenario_digest(scenario),
            id=scenario.id,
            capability=scenario.capability,
            critical=scenario.critical,
            wording=wording,
            repeat=0,
            points=points,
        )
    return Observation(
        row=row,
        section=section,
        id=scenario.id,
        wording=wording,
        repeat=0,
        completion=completion or "",
        finish="stop" if completion is not None else "error",
        reasons=reasons,
        prompt_tokens=90,
        completion_tokens=18,
        seconds=0.4,
        error=None if completion is not None else {"code": "engine-failed"},
    )


@pytest.fixture(scope="session")
def right() -> Callable[[Scenario], str]:
    """The right answer to a scenario."""
    return lambda scenario: json.dumps(scenario.reference)
