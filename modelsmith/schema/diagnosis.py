"""Diagnosis: what fails together, and what the next training run should aim at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from modelsmith.schema.base import Digest, Frozen, Share, Slug
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.steps import Step

Severity = Literal["high", "medium", "low"]

CauseKind = Literal["form", "value", "unknown-value", "various", "topic", "empty", "echo", "answer"]
"""Root cause: the answer cannot be read; a wrong value that the set knows, or one that it does not; several wrong
values; cases that speak of one thing; no answer; the question over again; or an answer of another kind."""

Action = Literal["train", "widen", "dpo", "grpo", "review"]
"""What to do next about a pattern: train on its generators' rows, widen those, train by preference pairs, by the
rubric's reward, or have the domain lead read rubric and scenarios."""


class Tried(Frozen):
    """One iteration that trained on a pattern."""

    iteration: Annotated[int, Field(ge=1)]
    methods: tuple[str, ...]
    """Methods of its training, in order."""
    rows: Annotated[int, Field(ge=0)]
    """Training rows that were aimed at it."""
    before: Annotated[int, Field(ge=1)]
    """Failed cases that called for it."""
    after: Annotated[int, Field(ge=0)] | None
    """How many of these still failed in the candidate's run; None where none was run."""


class PatternHistory(Frozen):
    """History of a pattern in earlier iterations of the cluster, and what they did about it."""

    first_seen: Annotated[int, Field(ge=1)] | None
    """Iteration that diagnosed it first; None where none has."""
    iterations: Annotated[int, Field(ge=0)]
    """Earlier iterations that diagnosed it: its age."""
    tried: tuple[Tried, ...]
    """Oldest first."""
    persistent: bool
    """Two trainings in a row took less than a quarter of its cases away."""
    action: Action
    """The recommended next action, by what has been tried."""


class Recommendation(Frozen):
    """Recommended action where the registered rule says that training has stopped paying.

    A person decides: the cluster file on main says what a candidate is trained by.
    """

    action: Action | None
    """None where no pattern is known that it could answer."""
    pattern: str | None
    """Id of the failure cluster that it answers: the most severe one that training has not moved."""
    file: str
    """Path of what is to be changed by pull request; empty where nothing is."""
    change: str
    """What to write there, as YAML in one line; empty where it is for a person to find."""
    next: Step
    """What to run: at once where nothing is to be changed, else once main has the change."""


class Confusion(Frozen):
    """One wrong value that was given instead of the right one."""

    field: str
    """Dotted path of the field in the answer."""
    given: str | None
    """The value given; None when it is none of the values that the eval set or its generators know."""
    right: str
    """The value that the references ask for."""
    cases: Annotated[int, Field(ge=1)]
    """Failed cases in which it was given at least once."""


class Missed(Frozen):
    """Failed cases that miss exactly these rubric points."""

    points: Annotated[tuple[Slug, ...], Field(min_length=1)]
    cases: Annotated[int, Field(ge=1)]


class FailureCluster(Frozen):
    """Failed scenarios of one capability that share a cause.

    That is the answer's form, where it cannot be read, else the weightiest rubric point that they miss (what else they
    miss usually follows from it), and what was answered instead.
    """

    id: Slug
    """The same for the same pattern in every run, whoever its members are: capability, point and root cause."""
    cause: CauseKind
    capability: Slug
    points: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Rubric points that any of these cases misses, in the rubric's order."""
    missed: Annotated[tuple[Missed, ...], Field(min_length=1)]
    """How the cases divide by the points that each misses, most cases first."""
    operator_lenses: dict[Slug, int]
    """Failed cases by operator lens, most first."""
    failed_cases: Annotated[int, Field(ge=1)]
    """Scenarios that miss a point in at least one wording or repeat."""
    total_cases: Annotated[int, Field(ge=1)]
    """Scenarios of this capability that were asked."""
    critical_cases: Annotated[int, Field(ge=0)]
    """Failed cases that must never regress."""
    cut_off_cases: Annotated[int, Field(ge=0)] = 0
    """Failed cases with a failed answer that reached ``max_new_tokens`` before the model ended it."""
    risk_share: Share
    """Failed share of the capability's cases, each weighted by its risk (low 1, medium 2, high 3)."""
    severity: Severity
    confusions: tuple[Confusion, ...]
    """Wrong values, most frequent first."""
    pattern: str
    """What goes wrong, in one sentence without any of the model's own text."""
    reviewer_action: str
    """What a person should do about it, if anything."""
    next_target: str
    """What the next training run aims at."""
    cases: tuple[Slug, ...]
    """Ids of the failed scenarios."""
    history: PatternHistory | None = None
    """None where nobody has looked it up."""


Rejection = Literal[
    "unreadable",
    "no-answer",
    "tells-answer",
    "fails-rubric",
    "as-declared",
    "other-capability",
    "near-scored",
    "near-row",
    "no-room",
    "retention-over",
]
"""Why a row was not taken: it is not a row; nothing came back; what is asked says the answer; its answer does not
pass; the answer is the declared one; the set has no such capability; too near to a scored text, or to another row; the
source's share was full; the last day of its data set has passed."""


class Offered(Frozen):
    """Rows that a source besides the generators gave to a batch."""

    source: Literal["own-sample", "teacher", "dataset"]
    name: Slug
    """Data set or teacher; ``own`` for the model itself."""
    offered: Annotated[int, Field(ge=0)]
    """Rows that it offered; a data set whose retention is over offers none."""
    kept: Annotated[int, Field(ge=0)]
    rejected: dict[Rejection, Annotated[int, Field(ge=1)]]
    """The others, by reason."""
    notes: tuple[str, ...] = ()
    """What a person should know: the first lines that could not be read, a retention that is over."""


class Diagnosis(Frozen):
    """``diagnosis.json`` of an iteration: what it trained on, and why. Stays on the operator's machine."""

    iteration: Annotated[int, Field(ge=1)]
    run_id: Digest
    tag: str
    """Tag of the run that was diagnosed."""
    model: str
    """Whose failures these are: ``base`` or a specialist."""
    methods: tuple[str, ...]
    """Methods of the training that follows, in order."""
    recipe: Digest | None = None
    """Of the settings of its stages; None in what was written before this was recorded."""
    clusters: tuple[FailureCluster, ...]
    rows: dict[Slug, Annotated[int, Field(ge=0)]]
    """Training rows that were aimed at each cluster, by its id; a row may be aimed at several."""
    dropped: Annotated[int, Field(ge=0)]
    """Rows that were too near to a scored text."""
    sources: tuple[Offered, ...] = ()
    """Rows that other sources gave, of all stages."""


class Struck(Frozen):
    """Rows of an iteration that somebody took out before training. Stays on the operator's machine."""

    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the rows: twelve hex digits each."""
    reason: PlainLine
    at: AwareDatetime


class Strikes(Frozen):
    """``struck.json`` of an iteration: what must not be trained on, whoever makes its rows again."""

    strikes: tuple[Struck, ...] = ()

    @property
    def rows(self) -> frozenset[str]:
        """Names of all rows that were struck."""
        return frozenset(name for strike in self.strikes for name in strike.rows)
