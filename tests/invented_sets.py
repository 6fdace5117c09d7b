"""Eval sets made of invented scenarios, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from modelsmith.schema.evalset import CompositeWeights, EvalSet, PromptTemplate, Sampling, Thresholds
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Criterion, Message, Scenario

RUBRIC = Rubric.model_validate(
    {
        "id": "quality",
        "owner": "domain-lead",
        "description": "What better means.",
        "points": (
            {
                "id": "cause",
                "text": "The cause is right.",
                "weight": 1.0,
                "check": {"type": "json_field", "path": "cause", "expected": {"reference": "cause"}},
            },
        ),
    }
)


def scenario(
    name: str,
    capability: str = "floors",
    risk: str = "low",
    lens: str = "trader",
    outcome: str = "overpay",
    text: str = "",
    variants: Sequence[str] = (),
) -> Scenario:
    return Scenario(
        id=name,
        capability=capability,
        risk=risk,
        operator_lens=lens,
        outcome_type=outcome,
        messages=(Message(role="user", content=text or f"{name} tells a story of its own"),),
        reference={"cause": capability},
        criteria=(Criterion.model_validate({"point": "cause", "pass": "Names it.", "fail": "Does not."}),),
        variants=tuple(variants),
    )


def governed(
    core: Sequence[Scenario],
    held_out: Sequence[Scenario] = (),
    micro: Sequence[Scenario] = (),
    weights: tuple[float, float, float] = (0.5, 0.3, 0.2),
) -> GovernedSet:
    evalset = EvalSet(
        id="diagnosis",
        domain="ads",
        version="1.2.0",
        owner="domain-lead",
        description="Invented.",
        rubric="rubrics/quality.yaml",
        prompt=PromptTemplate(system="Answer."),
        sampling=Sampling(max_new_tokens=16),
        composite=CompositeWeights(core=weights[0], robustness=weights[1], micro=weights[2]),
        thresholds=Thresholds(composite=0.5, held_out=0.5),
    )
    return GovernedSet(evalset, RUBRIC, tuple(core), tuple(micro), tuple(held_out), (), "evals/ads/diagnosis")
