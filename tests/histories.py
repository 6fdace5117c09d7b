"""Invented runs and histories, to make histories of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from modelsmith.evidence.composite_history import CompositeHistory, Promoted, composite_history
from modelsmith.governance.states import SpecialistHistory
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Routing, Serving
from modelsmith.schema.evalset import CompositeWeights, DecisionRule, Question, Thresholds
from modelsmith.schema.promotion import Preparer, PromotionRecord
from modelsmith.schema.run import Cost, EngineFacts, Estimate, GateRule, Headline, PointWeight, RunResult

ALL = ("core", "robustness", "micro", "held_out")
TARGETS = {"customer-deployed": "customer-deployed", "production-validated": "production-validated"}


def name(number: int) -> str:
    return "base" if number == 0 else f"iter-{number:03d}-{number:08x}"


def question(version: str, held_out: str = "") -> Question:
    return Question(core=digest(["core", version]), held_out=digest(["held-out", held_out or version]))


def run(number: int, value: float, version: str = "1.0.0", minute: int = 0, **changes) -> RunResult:
    """A complete run of iteration ``number``, 0 being the base model."""
    weights = changes.pop("weights_of_parts", (0.5, 0.3, 0.2))
    reach = 0.06
    estimate = Estimate(value=value, low=max(0.0, value - reach), high=min(1.0, value + reach), n=60)
    held_out = Estimate(value=max(0.0, value - 0.05), low=0.0, high=1.0, n=60)
    return RunResult(
        **{
            "run_id": digest(["run", number, version, value]),
            "tag": f"rtb-pricing-{number}-{version}",
            "cluster": "rtb-pricing",
            "model": name(number),
            "weights": digest(["weights", number]),
            "question": question(version),
            "rubric": digest("rubric"),
            "eval_set": "adtech/rtb-root-cause",
            "eval_set_version": version,
            "eval_tree": "0" * 40,
            "engine": EngineFacts(substrate="local", version="1", dtype="float32", device="cpu"),
            "rule": GateRule(
                points=(PointWeight(id="cause", weight=1.0, required=True),),
                composite=CompositeWeights(core=weights[0], robustness=weights[1], micro=weights[2]),
                thresholds=Thresholds(composite=0.7, held_out=0.65),
                decision=DecisionRule(),
            ),
            "headline": Headline(
                composite=estimate,
                held_out=held_out,
                sections=(),
                per_rubric=(),
                per_capability=(),
                regressions=(),
                compared=0,
                difference=None,
                checks=(),
                verdict="PASS" if value >= 0.7 else "FAIL",
            ),
            "incumbent": None,
            "cost": Cost(
                p50_seconds=0.1, p95_seconds=0.2, prompt_tokens=1, completion_tokens=1, tokens_per_second=1.0,
                cost_per_decision=0.0, currency="EUR",
            ),
            "sections": ALL,
            "quick": False,
            "attempts": 1,
            "scenarios": 138,
            "executed": 258,
            "started_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute),
            "duration_seconds": 60.0,
        }
        | changes
    )  # fmt: skip


def specialist_history(of: RunResult | None, number: int, *events: str, evidence: bool = False) -> SpecialistHistory:
    """A specialist whose later events rest on that run."""
    records = []
    for sequence, event in enumerate(events, start=1):
        rested = of if event != "candidate" else None
        records.append(
            PromotionRecord(
                cluster="rtb-pricing",
                specialist=name(number),
                sequence=sequence,
                event=event,
                from_state=None,
                to_state=TARGETS.get(event, "candidate" if event == "candidate" else "artifact-exported"),
                artifact=digest(["weights", number]),
                iteration=number,
                eval_run=rested.run_id if rested else None,
                eval_tag=rested.tag if rested else None,
                composite=rested.headline.composite.value if rested else None,
                policy=digest("policy"),
                evidence={"evidence.json": digest("evidence")} if evidence and rested else {},
                requested_by="smith",
                prepared_by=Preparer(id="smith", kind="harness"),
                expected_previous=None,
                required_approvers=(),
                rollback=None,
                previous_record=None,
                previous_receipts={},
            )
        )
    state = records[-1].to_state
    return SpecialistHistory(
        "rtb-pricing", name(number), state, tuple(records), tuple(digest(record) for record in records)
    )


def routing(**shares: float) -> Routing:
    """``iter_001=0.1``: who serves what, the base model by name."""
    serving = [(model if model == "base" else name(int(model[-3:])), share) for model, share in shares.items()]
    return Routing(
        cluster="rtb-pricing",
        serving=tuple(Serving(specialist=model, artifact=None, share=share, record=None) for model, share in serving),
    )


def history(
    *runs: RunResult,
    histories: tuple[SpecialistHistory, ...] = (),
    promoted: tuple[Promoted, ...] = (),
    routed: Routing | None = None,
    everything: bool = False,
) -> CompositeHistory:
    return composite_history(routed or routing(base=1.0), histories, runs, promoted, everything)
