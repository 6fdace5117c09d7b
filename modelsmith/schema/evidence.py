"""Evidence: one run's facts, without text, from which every headline number is recomputed.

Every field has a closed form, so that no completion, prompt or secret fits. Who determines which field, and what is
recomputed, is listed in ``docs/evidence-fields.md``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import (
    Digest,
    EvalSetName,
    Frozen,
    GitHash,
    ScoredPart,
    Section,
    SetVersion,
    Slug,
    Version,
)
from modelsmith.schema.embedding import Cosine
from modelsmith.schema.evalset import Fraction, Question
from modelsmith.schema.promotion import ExportFacts, SpecialistId, TrainingFacts
from modelsmith.schema.run import (
    Cost,
    EngineFacts,
    GateRule,
    Headline,
    JudgeAgreement,
    Judged,
    Latency,
    VerdictRow,
)

EVIDENCE_FILE = "evidence.json"
EVIDENCE_SIGNATURE = "evidence.sigstore.json"
EVIDENCE_TYPE = "https://modelsmith.dev/evidence/v1"


Dimension = Literal["capability", "risk", "operator_lens", "outcome_type"]
Library = Literal["torch", "transformers", "trl", "peft"]
Count = Annotated[int, Field(ge=0)]


class RunEvidence(Frozen):
    """One model's verdicts on the question."""

    run_id: Digest
    model: Slug
    """``base``, a specialist id or a baseline's name."""
    weights: Digest
    base: Digest | None = None
    """Base model beneath the weights, where they are an adapter; None where they stand alone, and in older evidence."""
    rows: tuple[VerdictRow, ...]
    headline: Headline
    cost: Cost | None = None
    """None when policy keeps it for operators."""
    engine: EngineFacts | None = None
    """What answered, where it is not the evidence's engine: a server of its own, a base model that is spoken to in
    another way."""


class Coverage(Frozen):
    """How many scenarios speak for each value of a dimension."""

    section: Section
    dimension: Dimension
    counts: dict[Slug, Count]


class Nearest(Frozen):
    """Similarity of the nearest pair of two kinds of text; 1 is the same words."""

    held_out_to_core: Fraction
    """A held-out text and one of core or micro."""
    training_to_scored: Fraction
    """A training row and any scored text."""


class PartOverlap(Frozen):
    """How near a batch of training rows comes to one part of what is scored."""

    part: ScoredPart
    texts: Count
    """Texts that it was compared with."""
    similarity: Fraction
    """Similarity of the nearest pair; 1 is the same words."""
    overlap: Fraction
    """Of the text of which most stands in the batch: the share of its words that stand in an n-gram of the batch."""


class PartNearness(Frozen):
    """How near in meaning a batch of training rows comes to one part of what is scored."""

    part: ScoredPart
    most_cosine: Cosine
    """The cosine that by policy no row may reach."""
    cosine: Fraction
    """Of the nearest pair, to four digits; 0 where all point away from each other. Machines agree to 0.001."""


class Nearness(Frozen):
    """Nearness by an embedding model, beside that by words."""

    model: Digest
    """The embedding model, as policy names it."""
    settings: Digest
    """Of all that decides a text's vector, the model with it: see `EmbeddingModel.identity`."""
    parts: tuple[PartNearness, ...]
    """Each part for which policy sets a limit, once."""


class Ancestor(Frozen):
    """The same of a batch that a specialist learned from before training went on from its adapter."""

    specialist: SpecialistId
    rows: Digest
    """The batch, as that specialist's training statement names it."""
    parts: tuple[PartOverlap, ...]
    """Each part of today's set once."""
    meaning: Annotated[Nearness | None, Field(exclude_if=lambda value: value is None)] = None


class Firewall(Frozen):
    """What was found when the training rows were held against everything that is scored: figures, no text.

    An adapter that goes on from another one knows what that was taught, too: so each batch of its past is held against
    what is scored today.
    """

    rows: Digest
    """The batch, as the training statement names it."""
    parts: tuple[PartOverlap, ...]
    """Each part of the set once."""
    meaning: Annotated[Nearness | None, Field(exclude_if=lambda value: value is None)] = None
    """By policy's embedding model; None where policy sets no limit for it."""
    ancestors: Annotated[tuple[Ancestor, ...], Field(exclude_if=lambda ancestors: not ancestors)] = ()
    """The specialists that training went on from, the nearest first; none where it began at the base model."""


class Since(Frozen):
    """Question and limits of the time when the incumbent was accepted.

    The base model never was: for it, when main first had the cluster.
    """

    question: Question
    eval_set_version: SetVersion
    rule: GateRule


class EarlierRun(Frozen):
    """A complete eval of a candidate after the incumbent, judged by the rule of its day."""

    model: SpecialistId
    run_id: Digest
    question: Question
    judged: Judged


class Evidence(Frozen):
    """The eval of a candidate as main keeps it: ``evidence.json``."""

    cluster: Slug
    specialist: SpecialistId
    artifact: Digest
    question: Question
    rubric: Digest
    eval_set: EvalSetName
    eval_set_version: SetVersion
    eval_tree: GitHash
    """Git tree hash of the eval set: the locator beside the identity."""
    engine: EngineFacts
    rule: GateRule
    candidate: RunEvidence
    incumbent: RunEvidence
    """The model that serves today (``base`` at first); regressions are counted against it."""
    baselines: tuple[RunEvidence, ...]
    """Other models on the same question; always contains the base model unless it is the incumbent."""
    attempts: Annotated[int, Field(ge=1)]
    """How often this question was begun for these weights, as the machine that ran it counts."""
    held_out_consulted: Count = 0
    """How often the held-out scenarios had been consulted, by any weights, up to the candidate's run."""
    since: Since
    """What stood when the incumbent was accepted, so that a rule made easier since then is seen."""
    earlier: tuple[EarlierRun, ...] = ()
    """Evals of candidates since the incumbent, oldest first, as the ledger of the machine tells it: its word alone."""
    coverage: tuple[Coverage, ...]
    training: TrainingFacts
    """Facts of the specialist's training; of an export, its parent's."""
    export: ExportFacts | None = None
    """What the candidate's own record says it is made from; None for an adapter."""
    judge: JudgeAgreement | None = None
    """Who decided the judged points of every run, and its verdicts on people's labels; None without judged points."""
    latency: Latency | None = None
    """Single requests to candidate and incumbent in turn; None where it was not measured, or policy keeps it for
    operators."""
    nearest: Nearest
    firewall: Firewall | None = None
    """None in older evidence."""
    environment: dict[Library, Version] = {}
    """Versions of libraries; no host, user or path. Empty when policy keeps them for operators."""
