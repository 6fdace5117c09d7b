"""Eval sets: the registered rule by which a candidate passes or fails."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelsmith.schema.base import MOST_WEIGHT, Digest, Frozen, Seed, SetVersion, Slug
from modelsmith.schema.source import JudgeModel

Fraction = Annotated[float, Field(ge=0, le=1)]


class PromptTemplate(Frozen):
    """The prompt around every scenario."""

    system: str = Field(min_length=1)
    """The system prompt."""


LEAST_TEMPERATURE = 0.01


def _zero_or_felt(temperature: float) -> float:
    if 0 < temperature < LEAST_TEMPERATURE:
        raise ValueError(
            f"must be 0, or at least {LEAST_TEMPERATURE}: what lies between overflows when scores are divided"
        )
    return temperature


class Sampling(Frozen):
    """How completions are drawn. Temperature 0 is greedy decoding."""

    max_new_tokens: Annotated[int, Field(ge=1, le=8192)]
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(_zero_or_felt)] = 0.0
    top_p: Annotated[float, Field(ge=1e-6, le=1)] = 1.0
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    """Completions for each wording."""
    seed: Seed = 0


class CompositeWeights(Frozen):
    """Weights of the parts of the composite score; they need not sum to one."""

    core: Annotated[float, Field(ge=0, le=MOST_WEIGHT)]
    robustness: Annotated[float, Field(ge=0, le=MOST_WEIGHT)]
    micro: Annotated[float, Field(ge=0, le=MOST_WEIGHT)]


class Thresholds(Frozen):
    """Point estimates that must be reached."""

    composite: Fraction
    """Weighted mean score over core, robustness and micro."""
    held_out: Fraction
    """Share of held-out scenarios that pass."""


class DecisionRule(Frozen):
    """Registered before training: how sure one must be, and how much may be lost."""

    confidence: Annotated[float, Field(gt=0.5, le=0.9999)] = 0.95
    """Confidence of every interval."""
    margin: Fraction = 0.05
    """Non-inferiority margin: the paired interval of candidate minus incumbent pass rate must lie above ``-margin``."""
    max_regressions: Fraction = 0.05
    """Share of the scenarios that the incumbent passes and the candidate may fail (critical ones: none)."""
    min_scenarios: Annotated[int, Field(ge=1)] = 20
    """Fewer held-out or core scenarios than this and the verdict is INCONCLUSIVE."""
    critical_pass: Fraction = 1.0
    """Share of the critical scenarios that must pass, whatever the incumbent passes; and none may be lost besides."""
    capability_floor: Fraction = 0.5
    """Share of each capability's scenarios that must pass, core, micro and held-out counted together."""
    capability_floors: dict[Slug, Fraction] = {}
    """Capabilities that have a floor of their own in its place."""


class Separation(Frozen):
    """How near texts may come to each other, as similarity in 0 to 1 (1: the same words)."""

    held_out_to_core: Fraction = 0.85
    """Nearest allowed pair of a held-out and a core text."""
    training_to_scored: Fraction = 0.80
    """Nearest allowed pair of a training row and any scored text; nearer rows are dropped."""


class QuickMode(Frozen):
    """A representative part for a fast look; never enough to promote."""

    scenarios: Annotated[int, Field(ge=1)] = 12
    """Scenarios per section, spread over capabilities."""


class EvalSet(Frozen):
    """``evalset.yaml``: version, owner, prompt, sampling, weights, thresholds and decision rule."""

    id: Slug
    domain: Slug
    version: SetVersion
    owner: Slug
    """Role of the domain owner."""
    description: str
    rubric: str
    """Path of the rubric, relative to the eval set's folder."""
    prompt: PromptTemplate
    sampling: Sampling
    held_out_wordings: Literal["own", "all"] = "all"
    """Asked wordings of each held-out scenario: its own, or its variants too; it passes when all that are asked do."""
    composite: CompositeWeights
    thresholds: Thresholds
    decision: DecisionRule = DecisionRule.defaults()
    separation: Separation = Separation.defaults()
    quick: QuickMode = QuickMode.defaults()
    judge: JudgeModel | None = None
    """Decides the rubric points whose check is ``judge``."""


class Question(Frozen):
    """Identity of what was asked: digests of scored content, prompt, sampling and rubric, held-out apart.

    No path, URL, host or time enters, so a mirror keeps every identity.
    """

    core: Digest
    """Core scenarios with variants, micro-benchmarks, rubric, prompt, sampling; judge and labels, if any."""
    held_out: Digest
    """Held-out scenarios, rubric, prompt, sampling; judge and labels, if any."""
