"""Evidence made of invented verdicts: no text, no model, any shape."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from modelsmith.evaluation.headline import headline
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.base import Section
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evalset import CompositeWeights, DecisionRule, Question, Thresholds
from modelsmith.schema.evidence import Coverage, Evidence, Nearest, RunEvidence, Since
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.run import Cost, EngineFacts, GateRule, Latency, PointWeight, Timing, VerdictRow

CAPABILITIES = (
    "auction-timeout",
    "bid-floor-optimisation",
    "bid-shading",
    "budget-pacing",
    "invalid-traffic",
    "supply-path",
)
SIZES: Mapping[Section, int] = {"core": 10, "robustness": 10, "micro": 3, "held_out": 10}
POINTS = ("answer-format", "cause", "action")

RULE = GateRule(
    points=(
        PointWeight(id="answer-format", weight=1.0, required=True),
        PointWeight(id="cause", weight=3.0, required=True),
        PointWeight(id="action", weight=2.0, required=True),
    ),
    composite=CompositeWeights(core=0.5, robustness=0.3, micro=0.2),
    thresholds=Thresholds(composite=0.7, held_out=0.6),
    decision=DecisionRule(confidence=0.95, margin=0.1, max_regressions=0.1, min_scenarios=50, critical_pass=0.5),
)


def make_rows(
    skill: float,
    formatted: float = 1.0,
    seed: int = 1,
    capabilities: Sequence[str] = CAPABILITIES,
    sizes: Mapping[Section, int] = SIZES,
) -> tuple[VerdictRow, ...]:
    """Verdicts of a model that is right with the given skill, later capabilities being easier."""
    rows = []
    for section, size in sizes.items():
        for place, capability in enumerate(capabilities):
            chance = min(1.0, skill * (0.8 + 0.4 * (place + 1) / len(capabilities)))
            for number in range(1, size + 1):
                kind = "core" if section == "robustness" else section.replace("_out", "")
                name = f"{capability}-{kind}-{number:02d}"
                for wording in (1, 2) if section == "robustness" else (0,):
                    draw = random.Random(f"{seed} {name} {wording} {skill}")
                    shaped = draw.random() < formatted
                    cause = shaped and draw.random() < chance
                    action = shaped and (cause or draw.random() < 0.1)
                    rows.append(
                        VerdictRow(
                            section=section,
                            scenario=digest(name),
                            id=name,
                            capability=capability,
                            critical=number == 1,
                            wording=wording,
                            repeat=0,
                            points={"answer-format": shaped, "cause": cause, "action": action},
                        )
                    )
    return tuple(rows)


def make_run(
    model: str, rows: tuple[VerdictRow, ...], against: tuple[VerdictRow, ...] | None, rule: GateRule = RULE
) -> RunEvidence:
    return RunEvidence(
        run_id=digest(["run", model]),
        model=model,
        weights=digest(["weights", model]),
        rows=rows,
        headline=headline(rows, against, rule),
        cost=Cost(
            p50_seconds=0.412 if model != "base" else 0.398,
            p95_seconds=0.731 if model != "base" else 0.702,
            prompt_tokens=21_480,
            completion_tokens=4_020,
            tokens_per_second=57.3 if model != "base" else 58.9,
            cost_per_decision=0.0000114 if model != "base" else 0.0000112,
            currency="USD",
        ),
    )


def make_coverage(rows: Sequence[VerdictRow]) -> tuple[Coverage, ...]:
    parts = []
    for section in ("core", "micro", "held_out"):
        names = {row.id: row.capability for row in rows if row.section == section}
        if not names:
            continue
        capabilities = sorted(set(names.values()))
        counts = {
            "capability": {c: sum(v == c for v in names.values()) for c in capabilities},
            "risk": {"high": len(names) // 2, "medium": len(names) - len(names) // 2},
            "operator_lens": {"trader": len(names) // 3, "sre": len(names) - len(names) // 3},
            "outcome_type": {"lost-auctions": len(names) // 2, "underspend": len(names) - len(names) // 2},
        }
        parts += [Coverage(section=section, dimension=d, counts=c) for d, c in counts.items()]
    return tuple(parts)


def make_evidence(
    candidate: tuple[VerdictRow, ...] | None = None,
    incumbent: tuple[VerdictRow, ...] | None = None,
    incumbent_model: str = "base",
    baseline: tuple[VerdictRow, ...] | None = None,
    rule: GateRule = RULE,
    specialist: str = "iter-001-3f9c2a7e",
    attempts: int = 1,
) -> Evidence:
    rows = make_rows(0.9) if candidate is None else candidate
    before = make_rows(0.15, formatted=0.4, seed=2) if incumbent is None else incumbent
    run = make_run(specialist, rows, before, rule)
    return Evidence(
        cluster="rtb-pricing",
        specialist=specialist,
        artifact=run.weights,
        question=Question(core=digest("core"), held_out=digest("held-out")),
        rubric=digest("rubric"),
        eval_set="adtech/rtb-root-cause",
        eval_set_version="1.0.0",
        eval_tree="a" * 40,
        engine=EngineFacts(
            substrate="local", version="transformers 5.23.0, torch 2.13.0", dtype="float32", device="cpu"
        ),
        rule=rule,
        candidate=run,
        incumbent=make_run(incumbent_model, before, None, rule),
        baselines=(make_run("base", baseline, None, rule),) if baseline else (),
        attempts=attempts,
        since=Since(
            question=Question(core=digest("core"), held_out=digest("held-out")), eval_set_version="1.0.0", rule=rule
        ),
        coverage=make_coverage(rows),
        training=TrainingFacts(
            base_model="smollm2-135m-instruct",
            base_digest=digest("base weights"),
            parent="base",
            method="sft",
            seed=17,
            rows=480,
            rows_digest=digest("rows"),
            generators={c: digest(["generator", c]) for c in CAPABILITIES},
            reward=digest("rubric"),
            diagnosed_run=digest("diagnosed"),
            hyperparameters=digest("training"),
            steps=48,
            final_loss=0.0231,
            toolkit="modelsmith 0.1.0, trl 1.16.0, peft 0.21.2",
        ),
        latency=Latency(
            requests=12,
            warm_up=2,
            candidate=Timing(p50_seconds=0.151, p95_seconds=0.204),
            incumbent=Timing(p50_seconds=0.149, p95_seconds=0.211),
        ),
        nearest=Nearest(held_out_to_core=0.61, training_to_scored=0.72),
        environment={"torch": "2.13.0", "transformers": "5.23.0"},
    )


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The starter kit's."""
    return load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    """A candidate of real size that passes against the untrained base model."""
    return make_evidence(candidate=make_rows(0.95))


@pytest.fixture(scope="session")
def small() -> Evidence:
    """Few verdicts of three models, so that each verdict can be tried; the candidate loses a scenario or two."""
    sizes: Mapping[Section, int] = {"core": 2, "robustness": 2, "micro": 1, "held_out": 2}
    capabilities = ("bid-shading", "supply-path")
    return make_evidence(
        candidate=make_rows(0.8, capabilities=capabilities, sizes=sizes),
        incumbent=make_rows(0.5, seed=3, capabilities=capabilities, sizes=sizes),
        incumbent_model="iter-000-00000000",
        baseline=make_rows(0.1, formatted=0.5, capabilities=capabilities, sizes=sizes),
    )


@pytest.fixture(scope="session")
def evidence_with() -> Callable[..., Evidence]:
    """Makes evidence of another shape."""
    return make_evidence


@pytest.fixture(scope="session")
def rows_with() -> Callable[..., tuple[VerdictRow, ...]]:
    """Makes verdict rows."""
    return make_rows
