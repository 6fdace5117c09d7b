"""Evidence: one run's facts, without text, from which every headline number is recomputed."""

from __future__ import annotations

from pydantic import JsonValue

from modelsmith.schema.base import Digest, Frozen, Section, Slug
from modelsmith.schema.evalset import Question
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.run import Cost, EngineFacts, GateRule, Headline, JudgeAgreement, VerdictRow

EVIDENCE_FILE = "evidence.json"
EVIDENCE_SIGNATURE = "evidence.sigstore.json"
EVIDENCE_TYPE = "https://modelsmith.dev/evidence/v1"


class RunEvidence(Frozen):
    """One model's verdicts on the question."""

    run_id: Digest
    model: str
    weights: Digest
    rows: tuple[VerdictRow, ...]
    headline: Headline
    cost: Cost | None = None
    """None when policy keeps it for operators."""
    engine: EngineFacts | None = None
    """What answered, where it is not the evidence's engine: a baseline on a server of its own."""


class Coverage(Frozen):
    """How many scenarios speak for each value of a dimension."""

    section: Section
    dimension: Slug
    """``capability``, ``risk``, ``operator_lens`` or ``outcome_type``."""
    counts: dict[Slug, int]


class Evidence(Frozen):
    """``evidence.json``."""

    cluster: Slug
    specialist: str
    artifact: Digest
    question: Question
    rubric: Digest
    eval_set: str
    eval_set_version: str
    eval_tree: str
    engine: EngineFacts
    rule: GateRule
    candidate: RunEvidence
    incumbent: RunEvidence
    """The model that serves today (``base`` at first); regressions are counted against it."""
    baselines: tuple[RunEvidence, ...]
    """Other models on the same question; always contains the base model unless it is the incumbent."""
    attempts: int
    held_out_consulted: int = 0
    """How often the held-out scenarios had been consulted, by any weights, up to the candidate's run."""
    coverage: tuple[Coverage, ...]
    training: TrainingFacts
    judge: JudgeAgreement | None = None
    """Who decided the judged points of every run, and its verdicts on people's labels; None without judged points."""
    nearest: dict[str, float]
    """Similarity of the nearest pair: ``held_out_to_core`` and ``training_to_scored``."""
    environment: dict[str, JsonValue] = {}
    """Versions of libraries; no host, user or path. Empty when policy keeps them for operators."""
