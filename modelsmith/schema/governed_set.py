"""An eval set as one value: its files read and checked together, and the digests that say what it asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modelsmith.schema.canonical import content_digest, digest
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.evalset import EvalSet, Question
from modelsmith.schema.generator import Generator
from modelsmith.schema.labels import Label
from modelsmith.schema.rubric import JudgeCheck, Rubric
from modelsmith.schema.scenario import Scenario
from modelsmith.schema.source import JudgeModel

_DOCUMENTATION = {"criteria", "operator_lens", "outcome_type", "risk"}
"""Fields of a scenario that change nothing about what is asked or scored."""


@dataclass(frozen=True)
class GovernedSet:
    """An eval set whose files have all been checked, alone and together. Scenarios are sorted by id."""

    evalset: EvalSet
    rubric: Rubric
    core: tuple[Scenario, ...]
    micro: tuple[Scenario, ...]
    held_out: tuple[Scenario, ...]
    generators: tuple[Generator, ...]
    folder: str
    """``evals/<domain>/<set>``."""
    labels: tuple[Label, ...] = ()
    """Answers that people labelled, for the judge; sorted by digest."""
    held_out_to_core: float = 0.0
    """Similarity of the nearest pair of a held-out text and one of core or micro, in four decimals; 0 without both."""

    datasets: tuple[Dataset, ...] = ()
    """Manifests of the customer's own rows, sorted by id."""

    @cached_property
    def rubric_digest(self) -> str:
        """Identity of what "better" means: the same in eval, trainer and evidence."""
        return content_digest(self.rubric)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digest of each scenario, by its id, which no two scenarios of a set share."""
        return {scenario.id: scenario_digest(scenario) for scenario in (*self.core, *self.micro, *self.held_out)}

    @cached_property
    def held_out_digest(self) -> str:
        """Identity of the held-out scenarios, whatever is asked of them."""
        return digest(self._digests(self.held_out))

    def question(self) -> Question:
        """Identity of what is asked; see `Question`."""
        return self._question

    @cached_property
    def _question(self) -> Question:
        own = {"rubric": self.rubric_digest, **self._says("prompt", "sampling")}
        core = {**own, "core": self._digests(self.core), "micro": self._digests(self.micro)}
        held_out = {**own, **self._says("held_out_wordings"), "held_out": self._digests(self.held_out)}
        return Question(
            core=digest(core | self._judged((*self.core, *self.micro))),
            held_out=digest(held_out | self._judged(self.held_out)),
        )

    def _judged(self, scenarios: Iterable[Scenario]) -> dict[str, Any]:
        """The judge, its labels and what it is shown beyond rubric and scored content; nothing without a judge."""
        judge = self.evalset.judge
        if judge is None:
            return {}
        points = {point.id for point in self.rubric.points if isinstance(point.check, JudgeCheck)}
        criteria = {
            scenario.id: [
                criterion.model_dump(mode="json") for criterion in scenario.criteria if criterion.point in points
            ]
            for scenario in scenarios
        }
        return {
            "judge": {
                "name": judge.name,
                "weights": judge.base_model.digest if judge.base_model else None,
                "model": judge.endpoint.model if judge.endpoint else None,
                "max_new_tokens": judge.max_new_tokens,
                **_spoken(judge),
                "labels": labels_digest(map(label_digest, self.labels)),
            },
            "criteria": criteria,
        }

    def _digests(self, scenarios: Iterable[Scenario]) -> list[str]:
        return sorted(self.digests[scenario.id] for scenario in scenarios)

    def _says(self, *fields: str) -> dict[str, Any]:
        """Values of these fields of ``evalset.yaml`` that are not their defaults."""
        return self.evalset.model_dump(mode="json", include=set(fields), exclude_defaults=True)


def scenario_digest(scenario: Scenario) -> str:
    """Identity of a scenario's scored content: everything but criteria, risk, operator lens and outcome type."""
    return content_digest(scenario, _DOCUMENTATION)


def label_digest(label: Label) -> str:
    """Identity of a labelled answer: everything but who labelled it."""
    return content_digest(label, {"by"})


def labels_digest(labels: Iterable[str]) -> str:
    """Identity of a set's labels, from the digest of each."""
    return digest(sorted(labels))


def _spoken(judge: JudgeModel) -> dict[str, Any]:
    """How the judge is spoken to; nothing where that is as ever, so that no question changes by what is not said."""
    model = judge.base_model or judge.endpoint
    chat = model.chat.model_dump(mode="json", exclude_defaults=True) if model else {}
    return {"chat": chat} if chat else {}
