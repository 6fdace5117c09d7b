"""Eval runs: observations, estimates and verdicts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from modelsmith.schema.base import Currency, Digest, Frozen, Libraries, Section, ServedName, Slug
from modelsmith.schema.evalset import CompositeWeights, DecisionRule, Question, Thresholds
from modelsmith.schema.source import Chat, SamplingSetting

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]

Cause = Literal[
    "first-run",
    "weights-changed",
    "engine-changed",
    "prompt-changed",
    "scenario-new",
    "scenario-changed",
    "not-asked-before",
    "failed-before",
    "not-cached",
    "weights-unknown",
]
"""Why a completion had to be generated; see `modelsmith.evaluation.causes`."""


class VerdictRow(Frozen):
    """Verdicts on one completion, without any text: enough to recompute every headline number."""

    section: Section
    scenario: Digest
    """Digest of the scenario's content."""
    id: Slug
    """The scenario's name."""
    capability: Slug
    critical: bool
    wording: Annotated[int, Field(ge=0)]
    """0 is the scenario's own wording, 1 and up its variants."""
    repeat: Annotated[int, Field(ge=0)]
    points: dict[Slug, bool]
    """Rubric point and whether it passed."""
    cut_off: bool = False
    """Whether the answer reached ``max_new_tokens`` before the model ended it."""


class Observation(Frozen):
    """One completion and its verdict: a line of a run's JSONL file. Stays on the operator's machine."""

    row: VerdictRow | None
    """None when an error stopped the scoring; an error is never a zero."""
    section: Section
    id: Slug
    wording: int
    repeat: int
    completion: str
    finish: Literal["stop", "length", "error"]
    reasons: dict[Slug, str]
    """Why each failed point failed."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Time of the request; in a batch, the batch's time."""
    wall_seconds: float = 0.0
    """Time that the engine waited for this completion after the one before; these add up to the time of generation."""
    first_token_seconds: float | None = None
    """Time from the request to the first token, where the engine streams."""
    because: Cause | None = None
    """Why it was generated; None when the answer was adopted from the cache."""
    error: dict[str, JsonValue] | None = None
    """Error envelope and exit code, when scoring or generation failed; with a completion only the scoring did."""


EngineVersion = Libraries | ServedName
"""Libraries of an engine with their versions, or the name of a server's model."""

Dtype = Literal["float32", "bfloat16", "float16", "unknown"]

Amount = Annotated[float, Field(ge=0)]


class EngineFacts(Frozen):
    """Engine and the settings that can change a completion. No host names."""

    substrate: Slug
    version: EngineVersion
    dtype: Dtype
    device: Literal["cpu", "cuda", "remote"]
    weights: Literal["pinned", "unknown"] = "pinned"
    """``unknown``: a server's model that nobody outside can pin; its answers count within their own run only."""
    omitted: tuple[SamplingSetting, ...] = ()
    """Settings of the sampling that were not sent, since the server refuses them."""
    chat: Chat | None = None
    """How the model is spoken to; None in what was written before this was recorded."""


class RunRequest(Frozen):
    """``<cluster>/runs/<tag>/request.json``: what a run folder holds the answers to."""

    cluster: Slug
    model: str
    """``base`` or a specialist id."""
    weights: Digest
    base: Digest | None = None
    """Base model beneath the weights, where they are an adapter."""
    question: Question
    rubric: Digest
    generation: Digest
    """Digest of system prompt, sampling and context format: what shapes a completion besides scenario and model."""
    engine: EngineFacts
    sections: tuple[Section, ...]
    quick: bool
    only: tuple[Slug, ...] | None = None
    """Ids of the scenarios asked, sorted, when not all were: the run of a change."""
    held_out: Digest | None = None
    """Digest of the held-out scenarios, where the run asks them."""
    reading: int = 1
    """Which of the ways of reading answers decided the declared points; 1 in what was written before this was
    recorded."""


class PointWeight(Frozen):
    """The scoring rule of one rubric point, as evidence carries it."""

    id: Slug
    weight: float
    required: bool


class GateRule(Frozen):
    """Everything the verdict depends on besides the observations."""

    points: tuple[PointWeight, ...]
    composite: CompositeWeights
    thresholds: Thresholds
    decision: DecisionRule
    min_kappa: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Least agreement of the judge with people's labels; None where none is asked for."""


class Estimate(Frozen):
    """A point estimate with its interval; ``n`` is the number of scenarios (the statistical clusters), or of labels."""

    value: float
    low: float
    high: float
    n: int


class LabelVerdict(Frozen):
    """Verdicts of a person and of the judge on one labelled answer, without its text."""

    label: Digest
    """Digest of scenario, point, answer and the person's verdict."""
    point: Slug
    person: bool
    judge: bool | None
    """None when the judge's reply was not a verdict."""


class PointAgreement(Frozen):
    """Judge and people on one rubric point."""

    point: Slug
    agreed: int
    """Labelled answers on which both say the same."""
    total: int
    """Labelled answers, those without a clear reply included."""
    kappa: Estimate | None
    """See `JudgeAgreement`."""


class JudgeAgreement(Frozen):
    """How well the judge agrees with people, a pure function of its verdicts on their labels."""

    judge: Slug
    """Name of the judge."""
    identity: Digest
    """Digest of all that shapes its verdicts: weights, engine, prompt, sampling."""
    labels: Digest
    """Digest of the labels."""
    agreed: int
    unclear: int
    """Labelled answers to which its reply was not a verdict; they count for neither side of kappa."""
    kappa: Estimate | None
    """Cohen's kappa over the labels with a verdict: 1 is full agreement, 0 what chance alone gives. None where it is
    not defined: no verdict at all, or judge and people gave every answer one and the same."""
    points: tuple[PointAgreement, ...]
    """By the point's id; points without labels are left out."""
    met: bool | None
    """Whether the least agreement is reached, with every reply clear; None where none is asked for."""
    verdicts: tuple[LabelVerdict, ...]
    """Sorted by label."""


class RepeatRate(Frozen):
    """What k tries of a scenario come to, a try being one repeat in all wordings of the section."""

    k: int
    at_least_one: Estimate
    """pass@k: share of scenarios of which at least one of k tries passes, clustered by scenario."""
    every: Estimate
    """pass^k: share of scenarios of which all k tries pass, clustered by scenario."""


class RepeatRates(Frozen):
    """Rates of a section whose answers were drawn repeatedly."""

    drawn: int
    """Tries of each scenario."""
    rates: tuple[RepeatRate, ...]
    """For 1, 2, 4 ... tries and for as many as were drawn; fewer than drawn are unbiased estimates."""


class SectionScore(Frozen):
    """One part of the eval."""

    section: Section
    score: Estimate
    """Mean scenario score (weighted share of rubric points), clustered by scenario."""
    pass_rate: Estimate
    """Share of scenarios that pass in every wording and repeat of the section (Wilson interval)."""
    repeats: RepeatRates | None = None
    """None when each wording was answered once."""


class PointRate(Frozen):
    """Pass rate of one rubric point over all completions of a section set."""

    point: Slug
    passed: int
    total: int


class CapabilityRate(Frozen):
    """Pass rate of one capability in one section, counted in scenarios."""

    section: Section
    capability: Slug
    passed: int
    total: int


class Regression(Frozen):
    """A scenario that the incumbent passes and the candidate fails."""

    section: Section
    id: Slug
    scenario: Digest
    capability: Slug
    critical: bool


class GateCheck(Frozen):
    """One sentence of the verdict."""

    name: Slug
    outcome: Outcome
    sentence: str
    """The reason in words that a reviewer can defend."""


class Headline(Frozen):
    """Every number a reviewer reads, a pure function of verdicts (rows, and the judge on labels) and `GateRule`."""

    composite: Estimate
    held_out: Estimate
    sections: tuple[SectionScore, ...]
    per_rubric: tuple[PointRate, ...]
    per_capability: tuple[CapabilityRate, ...]
    regressions: tuple[Regression, ...]
    compared: int
    """Scenarios that the incumbent passes: what a regression count is out of."""
    difference: Estimate | None
    """Paired difference of pass rates, candidate minus incumbent, over core and held-out scenarios."""
    checks: tuple[GateCheck, ...]
    cut_off: int = 0
    """Answers that reached ``max_new_tokens`` before the model ended them; they count as they stand."""
    verdict: Outcome


class Judged(Frozen):
    """Outcome of a run's answers by one rule."""

    rule: GateRule
    verdict: Outcome
    composite: Estimate
    held_out: Estimate


def judged_by(rule: GateRule, headline: Headline) -> Judged:
    """The part of a headline that a later rule would make another one of."""
    return Judged(rule=rule, verdict=headline.verdict, composite=headline.composite, held_out=headline.held_out)


class Timing(Frozen):
    """Times of single requests."""

    p50_seconds: Amount
    p95_seconds: Amount


class Latency(Frozen):
    """How long one request takes, alone: each model got the same requests one at a time, the two models in turn.

    An observation of one machine. Engine, precision and device are the evidence's; a batch holds one request.
    """

    requests: Annotated[int, Field(ge=1)]
    """Timed requests to each model."""
    warm_up: Annotated[int, Field(ge=0)]
    """Requests to each model before them that were not timed."""
    candidate: Timing
    incumbent: Timing


class Cost(Frozen):
    """Time, tokens and money that answering takes."""

    p50_seconds: Amount
    """Time of a request under the load of the eval: in a batch, the batch's. Two runs do not compare by it."""
    p95_seconds: Amount
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]
    tokens_per_second: Amount
    """Completion tokens per second of generation."""
    first_token_p50_seconds: Amount | None = None
    """None where the engine does not stream."""
    first_token_p95_seconds: Amount | None = None
    cost_per_decision: Amount
    currency: Currency


class RunResult(Frozen):
    """``<cluster>/runs/<tag>/result.json`` and what ``modelsmith eval --json`` prints."""

    run_id: Digest
    """Digest of question, weights, engine and observations."""
    tag: str
    cluster: Slug
    model: str
    """``base`` or a specialist id."""
    weights: Digest
    """Base model digest, or artifact id of the specialist."""
    base: Digest | None = None
    """Base model beneath the weights, where they are an adapter: the one that the sealed artifact itself names."""
    question: Question
    rubric: Digest
    eval_set: str
    eval_set_version: str
    eval_tree: str
    """Git tree hash of the eval set: the locator beside the identity."""
    engine: EngineFacts
    rule: GateRule
    headline: Headline
    before: tuple[Judged, ...] = ()
    """What the same answers came to by the rules of earlier days, oldest first."""
    judge: JudgeAgreement | None = None
    """Who decided the judged points, and how well it agrees with people; None without judged points."""
    incumbent: str | None
    """Run id of the incumbent that regressions were counted against."""
    cost: Cost
    sections: tuple[Section, ...]
    quick: bool
    only: tuple[Slug, ...] | None = None
    """Ids of the scenarios asked, when not all were."""
    attempts: int
    """How often this question was begun for these weights; the first complete attempt binds."""
    held_out_consulted: int = 0
    """How often these held-out scenarios were consulted, by any weights, this run included; each look uses them up."""
    scenarios: int
    completions: int = 0
    """Completions of the run."""
    executed: int
    """Completions generated by this call; the rest was resumed or adopted."""
    because: dict[Cause, int] = {}
    """Why, counted over those that were executed."""
    judged: int = 0
    """Verdicts that this call asked of the judge."""
    started_at: AwareDatetime
    duration_seconds: float

    @property
    def by_rule(self) -> tuple[Judged, ...]:
        """Outcomes of its answers, by the rule of their day first."""
        return (*self.before, judged_by(self.rule, self.headline))

    @property
    def is_complete(self) -> bool:
        """Whether every weighted section and held-out were asked, all scenarios of each, and not in quick mode."""
        weights = self.rule.composite
        weighted = {"core": weights.core, "robustness": weights.robustness, "micro": weights.micro}
        needed = {"held_out", *(section for section, weight in weighted.items() if weight > 0)}
        return not self.quick and self.only is None and needed <= set(self.sections)
