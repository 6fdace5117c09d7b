"""How the composite of a cluster moved: each run in the order of time, what it answered and what came of its model.

Runs come from the ledger, and from the evidence on main where the ledger of this clone does not know them. No time
enters: when a run took place is the operator's. Pure.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from modelsmith.governance.states import SpecialistHistory
from modelsmith.schema.base import Digest, Event, Frozen
from modelsmith.schema.cluster import Routing
from modelsmith.schema.evalset import CompositeWeights, Question
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.promotion import OVERRIDE_FILE, PromotionRecord
from modelsmith.schema.run import Estimate, Judged, Outcome, RunResult, judged_by

BASE = "base"
_ITERATION = re.compile(r"iter-(\d+)-")


class Rejudged(Frozen):
    """Outcome of the same answers by a later rule."""

    threshold: float
    held_out_threshold: float
    composite: Estimate
    verdict: Outcome


class HistoryEntry(Frozen):
    """One run, as a point of the history."""

    number: int
    """Position in time, from 1."""
    run_id: Digest
    tag: str | None
    """None for a run that only evidence on main knows, and whose record names no tag."""
    model: str
    question: int
    """Number of the question in this history; composites of different questions are not comparable."""
    composite: Estimate
    held_out: Estimate
    threshold: float
    """Composite that had to be reached."""
    held_out_threshold: float
    verdict: Outcome
    """By the rule of its day, as the thresholds are."""
    overridden: bool
    """Whether a person let it count although it came out INCONCLUSIVE."""
    rejudged: tuple[Rejudged, ...]
    """Outcomes by the rules since, oldest first."""
    complete: bool
    """Quick and partial runs are not; they never count for a promotion."""
    events: tuple[Event, ...]
    """What happened to the specialist on the strength of this run, in order."""
    serves: float
    """Share of the traffic that the model serves now; on its latest run only."""


class AskedQuestion(Frozen):
    """A question that runs answered."""

    number: int
    eval_set: str
    eval_set_version: str
    question: Question
    weights: CompositeWeights
    rubric: Digest
    reference: Estimate | None
    """Composite of the base model on this question."""


class QuestionChange(Frozen):
    """A run that answered another question than the run before it."""

    number: int
    """Number of the first run that answered it."""
    sentence: str


class CompositeHistory(Frozen):
    """The runs of a cluster."""

    cluster: str
    entries: tuple[HistoryEntry, ...]
    questions: tuple[AskedQuestion, ...]
    changes: tuple[QuestionChange, ...]
    serving: dict[str, float]
    """Model and its share of the traffic now."""


class Promoted(NamedTuple):
    """A record on main and the evidence in its folder."""

    record: PromotionRecord
    evidence: Evidence


_Comparable = tuple[str, Question, CompositeWeights]


class _Run(NamedTuple):
    run_id: str
    tag: str | None
    model: str
    eval_set: str
    version: str
    question: Question
    rubric: str
    by_rule: tuple[Judged, ...]
    """Outcomes by rule; that of its day comes first."""
    complete: bool

    @property
    def first(self) -> Judged:
        """Its outcome by the rule of its day."""
        return self.by_rule[0]

    @property
    def comparable(self) -> _Comparable:
        """The properties that composites must share to be compared."""
        return self.eval_set, self.question, self.first.rule.composite


def composite_history(
    routing: Routing,
    histories: Sequence[SpecialistHistory],
    runs: Sequence[RunResult],
    promoted: Sequence[Promoted],
    everything: bool,
) -> CompositeHistory:
    """The history of the cluster of ``routing``.

    ``runs`` are the ledger's, oldest first. A run that several tags or sources know is shown once, at its first place,
    with its verdict by the rule of its day; what later rules made of it is said beside that. Runs that only
    ``promoted`` knows stand where their iteration does. Quick and partial runs are left out unless ``everything`` is
    asked for.
    """
    chosen_runs = [run for run in _in_time(runs, promoted) if everything or run.complete]
    numbers: dict[_Comparable, int] = {}
    for run in chosen_runs:
        numbers.setdefault(run.comparable, len(numbers) + 1)
    events = _events(histories)
    overridden = {
        record.eval_run for history in histories for record in history.records if OVERRIDE_FILE in record.evidence
    }
    latest = {run.model: run.run_id for run in chosen_runs if run.complete}
    serving = {route.specialist: route.share for route in routing.serving}
    entries = tuple(
        HistoryEntry(
            number=number,
            run_id=run.run_id,
            tag=run.tag,
            model=run.model,
            question=numbers[run.comparable],
            composite=run.first.composite,
            held_out=run.first.held_out,
            threshold=run.first.rule.thresholds.composite,
            held_out_threshold=run.first.rule.thresholds.held_out,
            verdict=run.first.verdict,
            overridden=run.run_id in overridden,
            rejudged=tuple(_rejudged(later) for later in run.by_rule[1:]),
            complete=run.complete,
            events=events.get(run.run_id, ()),
            serves=serving.get(run.model, 0.0) if latest.get(run.model) == run.run_id else 0.0,
        )
        for number, run in enumerate(chosen_runs, start=1)
    )
    return CompositeHistory(
        cluster=routing.cluster,
        entries=entries,
        questions=tuple(_question(number, question, chosen_runs) for question, number in numbers.items()),
        changes=tuple(
            QuestionChange(
                number=number, sentence=_changed(before, run, numbers[before.comparable], numbers[run.comparable])
            )
            for number, (before, run) in enumerate(itertools.pairwise(chosen_runs), start=2)
            if before.comparable != run.comparable
        ),
        serving=serving,
    )


def _in_time(runs: Sequence[RunResult], promoted: Sequence[Promoted]) -> list[_Run]:
    """Every run once: the ledger's order, with main's own runs put in by iteration."""
    placed: dict[str, tuple[int, int, _Run]] = {}
    reached = 0
    for result in runs:
        reached = max(reached, _iteration(result.model))
        run = _from_ledger(result)
        first = placed.get(run.run_id)
        if first:
            first_seen = first[2]
            rules = [judged.rule for judged in first_seen.by_rule]
            later = [judged for judged in run.by_rule if judged.rule not in rules]
            run = first_seen._replace(
                complete=run.complete or first_seen.complete, by_rule=(*first_seen.by_rule, *later)
            )
        placed[run.run_id] = (*first[:2], run) if first else (reached, 1, run)
    for promotion in sorted(
        promoted,
        key=lambda promotion: (promotion.record.iteration, promotion.record.specialist, promotion.record.sequence),
    ):
        for run in _from_main(promotion):
            placed.setdefault(run.run_id, (promotion.record.iteration, 0, run))
    return [run for _, _, run in sorted(placed.values(), key=lambda item: item[:2])]


def _iteration(model: str) -> int:
    match = _ITERATION.match(model)
    return int(match[1]) if match else 0


def _from_ledger(run: RunResult) -> _Run:
    return _Run(
        run_id=run.run_id,
        tag=run.tag,
        model=run.model,
        eval_set=run.eval_set,
        version=run.eval_set_version,
        question=run.question,
        rubric=run.rubric,
        by_rule=run.by_rule,
        complete=run.is_complete,
    )


def _rejudged(judged: Judged) -> Rejudged:
    limits = judged.rule.thresholds
    return Rejudged(
        threshold=limits.composite,
        held_out_threshold=limits.held_out,
        composite=judged.composite,
        verdict=judged.verdict,
    )


def _from_main(promotion: Promoted) -> Iterator[_Run]:
    """The runs that evidence speaks of, the candidate's last."""
    evidence = promotion.evidence
    for run in (*evidence.baselines, evidence.incumbent, evidence.candidate):
        yield _Run(
            run_id=run.run_id,
            tag=promotion.record.eval_tag if run is evidence.candidate else None,
            model=run.model,
            eval_set=evidence.eval_set,
            version=evidence.eval_set_version,
            question=evidence.question,
            rubric=evidence.rubric,
            by_rule=(judged_by(evidence.rule, run.headline),),
            complete=True,
        )


def _events(histories: Sequence[SpecialistHistory]) -> dict[str, tuple[Event, ...]]:
    """Events by the run that they rest on; an event before the first eval belongs to that eval."""
    events: dict[str, tuple[Event, ...]] = {}
    for history in histories:
        at = next((record.eval_run for record in history.records if record.eval_run), None)
        for record in history.records:
            at = record.eval_run or at
            if at:
                events[at] = (*events.get(at, ()), record.event)
    return events


def _question(number: int, key: _Comparable, asked_runs: Sequence[_Run]) -> AskedQuestion:
    inside = [run for run in asked_runs if run.comparable == key]
    base = [run.first.composite for run in inside if run.model == BASE and run.complete]
    return AskedQuestion(
        number=number,
        eval_set=inside[0].eval_set,
        eval_set_version=inside[0].version,
        question=inside[0].question,
        weights=inside[0].first.rule.composite,
        rubric=inside[0].rubric,
        reference=base[-1] if base else None,
    )


def _changed(before: _Run, after: _Run, old: int, new: int) -> str:
    parts = []
    if before.eval_set != after.eval_set:
        parts.append("eval set")
    if before.rubric != after.rubric:
        parts.append("rubric")
    elif before.question.core != after.question.core:
        parts.append("core cases, prompt or sampling")
    if before.first.rule.composite != after.first.rule.composite:
        parts.append("weights of the composite")
    comparable = f"not comparable with {old}" if parts else f"comparable with {old} except in held-out"
    prior = before.version if before.eval_set == after.eval_set else f"{before.eval_set} {before.version}"
    versions = f"{after.eval_set} {after.version}, before {prior}"
    return f"Question {new}, {comparable}: other {' and '.join(parts or ['held-out'])} ({versions})."
