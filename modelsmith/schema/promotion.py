"""Promotion records and receipts: the append-only history of a specialist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Actor, Digest, Event, Frozen, GitHash, Libraries, Moment, Slug, State
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.curve import StageCurve
from modelsmith.schema.live import LiveWindow
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.training import Method
from modelsmith.schema.training_row import PairSource
from modelsmith.schema.tries import SeedTries

SpecialistId = Annotated[str, Field(pattern=r"^iter-[0-9]{3,9}-[0-9a-f]{8}$")]
"""``iter-NNN-<first 8 hex digits of the artifact id>``."""

RECORD_FILE = "record.json"
RECORD_SIGNATURE = "record.sigstore.json"
TRAINING_FILE = "training.json"
EXPORT_FILE = "export.json"
"""Name of two files that say the same: of an export's artifact, and of its first record's folder."""
ROLLBACK_FILE = "rollback.json"
CLEARANCE_FILE = "clearance.json"
OVERRIDE_FILE = "override.json"
RECORD_TYPE = "https://modelsmith.dev/promotion-record/v1"


class Preparer(Frozen):
    """Person or harness who wrote the record down."""

    id: Actor
    kind: Literal["human", "agent", "harness"]


class RollbackContract(Frozen):
    """The exact inverse of a deployment, approved together with it."""

    terms: Rollback
    prior_specialist: SpecialistId | Literal["base"]
    """Specialist that traffic returns to, or ``base``."""
    prior_artifact: Digest | None
    prior_routing: Digest
    """SHA-256 of ``routing.yaml`` as rendered before the deployment: what a rollback must give again, byte for byte."""


class RollbackOrder(Frozen):
    """``rollback.json`` of a rolled-back event: what is undone, to whom traffic returns, and why."""

    undoes: Digest
    """Digest of the customer-deployed record that it undoes."""
    prior_specialist: SpecialistId | Literal["base"]
    """The incumbent after it, or ``base``."""
    prior_artifact: Digest | None
    trigger: Literal["manual", "metric"]
    """Why it was asked for: a person's or agent's own word, or counts of the live metric in ``window``."""
    reason: Annotated[PlainLine, Field(max_length=500)]
    """In the words of who asked for it; may be empty."""
    decided_at: Moment
    """The harness's clock when it was asked for. Whoever merges compares it with a clock of their own."""
    window: LiveWindow | None = None
    """What live traffic showed, as somebody reported it; with the trigger ``metric`` only."""
    live: Annotated[Digest | None, Field(exclude_if=lambda live: live is None)] = None
    """Digest of the ``live.json`` beside it, in which the front door says what it counted; in place of a window."""

    @model_validator(mode="after")
    def _window_goes_with_its_trigger(self) -> Self:
        if (self.trigger == "metric") != (self.window is not None or self.live is not None):
            raise ValueError("a window goes with the trigger metric, and with no other")
        if self.window and self.live:
            raise ValueError("a window is reported, or counted by the door: not both")
        return self


class HoldClearance(Frozen):
    """``clearance.json`` of a hold-cleared event: why the hold may end."""

    clears: Digest
    """Digest of the rolled-back record that began the hold."""
    reason: Annotated[PlainLine, Field(max_length=500)]
    """In the words of who asked for it; may be empty."""


class Override(Frozen):
    """``override.json`` of an eval-accepted event: why an eval that came out INCONCLUSIVE is to count all the same.

    It decides nothing: a person of the role that policy names has to approve the change that holds it.
    """

    run: Digest
    """Run id of the eval that it speaks of, and of no other."""
    evidence: Digest
    """Digest of the ``evidence.json`` beside it."""
    asked_by: Actor
    """The person who asks, who is never the one who approves."""
    reason: Annotated[PlainLine, Field(min_length=1, max_length=500)]
    """The reason, in their words."""


class PromotionRecord(Frozen):
    """``promotions/<cluster>/<specialist>/<seq>-<event>/record.json``, as canonical JSON."""

    cluster: Slug
    specialist: SpecialistId
    sequence: Annotated[int, Field(ge=1)]
    """Position in the specialist's history; the folder's number."""
    event: Event
    from_state: State | None
    to_state: State
    artifact: Digest
    """Artifact id: SHA-256 of the artifact's ``SHA256SUMS``."""
    iteration: Annotated[int, Field(ge=1)]
    eval_run: Digest | None
    """Run id of the governed eval; none before it has run."""
    eval_tag: Slug | None
    """Tag of the candidate's run; it follows from cluster and iteration."""
    composite: float | None
    policy: Digest
    """Digest of ``policy.yaml`` under which it was prepared."""
    evidence: dict[str, Digest]
    """Digest of every other file of this folder, by name."""
    requested_by: Actor
    prepared_by: Preparer
    expected_previous: Digest | None
    """Digest of the record that last changed the cluster's traffic or hold as seen when prepared: two collide on it."""
    required_approvers: tuple[Slug, ...]
    """Roles whose approval is needed; empty on the harness's gates."""
    rollback: RollbackContract | None
    previous_record: Digest | None
    """Digest of this specialist's previous record."""
    previous_receipts: dict[str, Digest]
    """Digest of every receipt of this specialist's previous record, by file name."""


class StageFacts(Frozen):
    """One stage of a training of several: by which method, from which rows, and what it went on from."""

    method: Method
    settings: Digest
    """Digest of the stage's settings in the cluster file, without the seed."""
    seed: int
    parent: Digest | None
    """Artifact id of the adapter that it went on from, which the stage before has left; None for the base model."""
    rows: Annotated[int, Field(ge=0)]
    rows_digest: Digest | None
    """Digest of its rows, in order; None when it was skipped."""
    steps: Annotated[int, Field(ge=0)]
    skipped: Literal["no-pairs"] | None = None
    """Why it did not run: the model failed none of its prompts."""
    trained_reward: Annotated[Digest | None, Field(exclude_if=lambda reward: reward is None)] = None
    """As `TrainingFacts` has it, of this stage; so are the judges. None, too, in what was written before these were
    recorded."""
    trained_judge: Annotated[Digest | None, Field(exclude_if=lambda judge: judge is None)] = None
    rows_judge: Annotated[Digest | None, Field(exclude_if=lambda judge: judge is None)] = None


class RecoveryFacts(Frozen):
    """A failure of a worker in training, and what was done about it."""

    stage: Annotated[int, Field(ge=1)]
    """Number of the stage, counted from 1."""
    failure: Slug
    """Class of the failure, such as ``oom``."""
    action: Slug
    """The action that was taken, such as ``smaller-batch``; see `training.recovery`."""
    rows_at_once: Annotated[int, Field(ge=1)]
    """Rows that went through the model at once from then on; those of a step stay what the cluster file says."""


def all_rows_digest(stages: Sequence[StageFacts]) -> str:
    """Identity of the rows of a training: that of its only stage, or of the list of all stages' digests."""
    digests = [stage.rows_digest for stage in stages]
    return digests[0] if len(digests) == 1 and digests[0] else digest(digests)


class TrainingFacts(Frozen):
    """``training.json`` of a candidate: lineage without text, paths or hosts."""

    base_model: Slug
    base_digest: Digest
    parent: SpecialistId | Literal["base"]
    """Specialist the training started from, or ``base``."""
    method: Method
    """Method of the training; of several stages, the last that was trained."""
    seed: int
    """Seed of the training; of several stages, that of the first."""
    rows: Annotated[int, Field(ge=1)]
    """Rows of all stages together; so are the steps."""
    rows_digest: Digest
    """Digest of the training rows, in order; of several stages, of the list of their digests."""
    generators: dict[Slug, Digest]
    """Digest of each generator that made rows."""
    reward: Digest
    """Digest of the rubric by which rows were checked; equals the eval's."""
    diagnosed_run: Digest
    """Run whose failures chose the rows."""
    hyperparameters: Digest
    """Digest of the cluster's ``training`` block."""
    steps: Annotated[int, Field(ge=1)]
    final_loss: float | None = None
    """None when policy keeps it for operators."""
    toolkit: Libraries | None = None
    """Version of Modelsmith and its training libraries; None when policy keeps it for operators."""
    recoveries: tuple[RecoveryFacts, ...] = ()
    """What failed on the way and was mended; the adapter is the same, after ``smaller-batch`` but for rounding."""
    stages: tuple[StageFacts, ...] = ()
    """Each stage of a training of several, in order; none where there is one only, of which the above speaks."""
    trained_reward: Digest | None = None
    """Identity of the reward by which the trainer scored sampled answers: the rubric, and how answers are read. Of
    several stages, that of the first that has one; so are the judges. None where no stage is GRPO."""
    trained_judge: Digest | None = None
    """Identity of the judge that decided points of that reward. None where declared checks decide all of them."""
    rows_judge: Digest | None = None
    """Identity of the judge that decided judged points of rows: of other sources, or of what pairs are made of. None
    where nobody asked one."""
    sources: dict[PairSource, Annotated[int, Field(ge=1)]] = {}
    """Rows by whose answers they teach; those of the declared generators are the rest."""
    datasets: dict[Slug, Digest] = {}
    """Digest of the manifest of each data set that gave rows."""
    curves: tuple[StageCurve, ...] = ()
    """How each stage that was trained went, in order. None when policy keeps the loss for operators, and in what was
    written before this was recorded."""
    tries: SeedTries | None = None
    """Every training of which this is the best held in, itself among them; the rest speaks of this one alone. None
    where the cluster asks for one training only."""
    loaded_in_4bit: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of the stages, counted from 1, in which the base model was held in 4 bits while it was trained. What
    answers in evals is the base model as it is pinned."""
    devices: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(exclude_if=lambda value: not value)] = ()
    """On how many devices each stage that was trained ran together, in order; where it was continued on another
    number, the last. Empty in what was written before this was recorded."""


ExportKind = Literal["gguf", "merged"]
"""``merged``: base model and adapter as one, in safetensors; ``gguf``: the same as one GGUF file, often quantised."""
ExportDtype = Literal["float32", "bfloat16"]


class Export(Frozen):
    """``export.json`` of a sealed artifact whose weights stand alone: what it is, and what it was made from.

    It is part of the artifact's identity, and holds no name of a specialist: that is for main to give.
    """

    kind: ExportKind
    parent: Digest
    """Artifact id of the adapter that it was made from."""
    base_model: Slug
    base_digest: Digest
    """The base model that was beneath that adapter."""
    dtype: ExportDtype | None = None
    """Of merged weights; a GGUF file says it for each of its tensors."""

    @model_validator(mode="after")
    def _merged_weights_have_one_type(self) -> Self:
        if (self.kind == "merged") != (self.dtype is not None):
            raise ValueError("a dtype goes with merged weights, and with no others")
        return self


class ExportFacts(Frozen):
    """``export.json`` of a candidate that is an export, in place of ``training.json``.

    Its training is its parent's.
    """

    parent: SpecialistId
    """Specialist whose adapter it was made from."""
    export: Export
    """What its artifact says of itself, in the same words."""
    toolkit: Libraries | None = None
    """Version of Modelsmith and the libraries that made it, or took it in; None when policy keeps it for operators."""

    @property
    def description(self) -> str:
        """Description in words: ``merged export of iter-001-c82c9078``."""
        return f"{self.export.kind} export of {self.parent}"


class Receipt(Frozen):
    """The facts that decided one merge, signed by who merged. It carries main's tip forward.

    A commit's id covers its parents, and so everything before it: whoever signs for a merge signs for the whole main
    that it was made on.
    """

    pull: Annotated[int, Field(ge=1)]
    change: Digest
    merge: GitHash
    """The merge commit: its first parent is main as it was, its tree what main became."""
    merged_by: Actor
    at: Moment
    """Clock of who merged."""
    gate: Literal["harness", "people", "contract"]
    """What opened it: the checks alone, approvals, or the rollback contract approved with the deployment."""
    requested_by: Actor
    prepared_by: Actor
    """Who opened the pull request; neither of the two can have approved it."""
    checks: tuple[str, ...]
    """Checks that had passed."""
    approvals: dict[Actor, str]
    """Approver and the name of the file that proves it: ``approval-<actor>.json`` with its ``.sig``, or
    ``attested-<actor>.sigstore.json``."""


class Approval(Frozen):
    """What a person signs: one verdict on one change of one pull request of one repository."""

    repository: str
    pull: Annotated[int, Field(ge=1)]
    base: GitHash
    """Main as the person saw it. It counts only on a main that contains this, so nothing before it can be left out."""
    change: Digest
    verdict: Literal["approve", "reject", "withdraw"]
    """``withdraw`` takes back the actor's earlier verdict on this change."""
    actor: Actor
    at: Moment
    reason: str = ""


class AttestedReview(Frozen):
    """One review as a forge has it; comments, which decide nothing, are left out."""

    review: Annotated[int, Field(ge=1)]
    """The forge's number of it."""
    login: Annotated[str, Field(max_length=100)]
    account: Annotated[int, Field(ge=1)]
    """The forge's number of the account."""
    kind: Annotated[str, Field(max_length=40)]
    """Kind of the account: ``User``, ``Bot``."""
    state: Literal["APPROVED", "CHANGES_REQUESTED", "DISMISSED"]
    commit: GitHash | None
    """The proposal's commit that it was given on."""
    at: Moment


class ReviewsAttestation(Frozen):
    """What a workflow of main read of the reviews of one pull request at a forge.

    Predicate of an in-toto statement whose subject is the change. Whose the accounts are is for people.yaml to say.
    """

    repository: str
    """Identity of the promotion repository, as policy has it."""
    forge: Slug
    hosted: str
    """``OWNER/NAME`` at the forge."""
    hosted_id: Annotated[int, Field(ge=1)]
    """The forge's number of it."""
    pull: Annotated[int, Field(ge=1)]
    head: GitHash
    """Commit that was opened, and that the pull request was at when it was read."""
    base: GitHash
    """Commit of main whose workflow read."""
    change: Digest
    reviews: Annotated[tuple[AttestedReview, ...], Field(max_length=500)]
    """Reviews, in the forge's order."""
    read_at: Moment


ATTESTATION_TYPE = "https://modelsmith.dev/reviews-attestation/v1"
APPROVAL_NAMESPACE = "modelsmith-approval"
"""Namespace of ``ssh-keygen -Y`` for approvals."""
EVENT_NAMESPACE = "modelsmith-event"
"""Namespace of ``ssh-keygen -Y`` for pull request events of the local forge."""
MERGE_NAMESPACE = "modelsmith-merge"
"""Namespace of ``ssh-keygen -Y`` for the receipt of a merge."""
