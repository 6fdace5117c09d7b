"""Evidence: from runs to ``evidence.json``, and back from its verdict rows to every number it states."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from pydantic import JsonValue

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.judges.agreement import agreement
from modelsmith.evaluation.rows import sorted_rows
from modelsmith.evaluation.summary import priced
from modelsmith.evidence.sanitise import assert_clean
from modelsmith.schema.base import Frozen, Section
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.evidence import (
    Coverage,
    Dimension,
    EarlierRun,
    Evidence,
    Firewall,
    Library,
    Nearest,
    RunEvidence,
    Since,
)
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.promotion import ExportFacts, TrainingFacts
from modelsmith.schema.run import Latency, RunResult, VerdictRow
from modelsmith.schema.scenario import Scenario

RELATIVE_TOLERANCE = 1e-12
"""Difference allowed between a stated and a recomputed number, for the last digit of another machine's arithmetic."""

DIMENSIONS: tuple[Dimension, ...] = ("capability", "risk", "operator_lens", "outcome_type")


SAME = frozenset({"cluster", "question", "rubric", "eval_set", "eval_set_version", "rule"})
"""What all runs of an evidence have in common; candidate and incumbent also their engine."""


@dataclass(frozen=True)
class Governing:
    """Main's policy, cluster and history for what is measured."""

    governed: GovernedSet
    cluster: Cluster
    eval_tree: str
    """Git tree hash of the eval set's folder."""
    since: Since
    """What stood when the incumbent was accepted."""


@dataclass(frozen=True)
class Run:
    """One model's run with its verdicts."""

    result: RunResult
    rows: tuple[VerdictRow, ...]


def build(
    governing: Governing,
    specialist: str,
    candidate: Run,
    incumbent: Run,
    baselines: Sequence[Run],
    training: TrainingFacts,
    training_to_scored: float,
    environment: Mapping[Library, str],
    latency: Latency | None = None,
    earlier: Sequence[EarlierRun] = (),
    export: ExportFacts | None = None,
    firewall: Firewall | None = None,
) -> Evidence:
    """The evidence of a candidate: headlines from the rows, and what main determines from main as it is now.

    Args:
        governing: What main says.
        specialist: Id of the candidate.
        candidate: Its run.
        incumbent: The run of the model that serves.
        baselines: Runs of the base model, unless it serves, and of the cluster's baselines, in their order.
        training: What the candidate's record says of its training, or its parent's of an export.
        training_to_scored: Similarity of the nearest pair of a training row and a scored text.
        environment: Versions of libraries on this machine.
        latency: Of single requests to candidate and incumbent, where it was measured.
        earlier: Evals of candidates since the incumbent.
        export: What the record of an export says that it was made from.
        firewall: The firewall's certificate of the training rows.

    Raises:
        InvalidInput: ``runs-differ`` when the runs did not answer the same question under the same rule on the same
            engine, ``quick-run`` when one of them asked a part only.
        IntegrityFailure: ``evidence-does-not-recompute`` when the parts contradict each other (see `recompute`).
    """
    for run in (candidate, incumbent):
        _require_comparable(candidate.result, run.result, {*SAME, "engine"})
    for run in baselines:
        _require_comparable(candidate.result, run.result, SAME)
    result = candidate.result
    evidence = Evidence(
        cluster=result.cluster,
        specialist=specialist,
        artifact=result.weights,
        question=result.question,
        rubric=result.rubric,
        eval_set=result.eval_set,
        eval_set_version=result.eval_set_version,
        eval_tree=governing.eval_tree,
        engine=result.engine,
        rule=result.rule,
        candidate=_run_evidence(candidate, incumbent.rows, result, governing.cluster),
        incumbent=_run_evidence(incumbent, None, result, governing.cluster),
        baselines=tuple(_run_evidence(run, None, result, governing.cluster) for run in baselines),
        attempts=result.attempts,
        held_out_consulted=result.held_out_consulted,
        since=governing.since,
        earlier=tuple(earlier),
        coverage=coverage(governing.governed),
        training=training,
        export=export,
        judge=result.judge,
        latency=latency,
        nearest=Nearest(held_out_to_core=governing.governed.held_out_to_core, training_to_scored=training_to_scored),
        firewall=firewall,
        environment=dict(sorted(environment.items())),
    )
    recompute(evidence)
    return evidence


def evidence_bytes(evidence: Evidence, ids: Callable[[], Collection[str]] = frozenset) -> bytes:
    """``evidence.json``: RFC 8785 canonical JSON. ``ids`` as for `sanitise.assert_clean`.

    Raises:
        IntegrityFailure: ``leak`` (see `sanitise.assert_clean`).
    """
    data = canonical_json(evidence)
    assert_clean(data, ids=ids)
    return data


def coverage(governed: GovernedSet) -> tuple[Coverage, ...]:
    """Scenarios by capability, risk, operator lens and outcome type, for each governed section."""
    sections: tuple[tuple[Section, tuple[Scenario, ...]], ...] = (
        ("core", governed.core),
        ("micro", governed.micro),
        ("held_out", governed.held_out),
    )
    return tuple(
        Coverage(section=section, dimension=dimension, counts=_counts(scenarios, dimension))
        for section, scenarios in sections
        if scenarios
        for dimension in DIMENSIONS
    )


def recompute(evidence: Evidence) -> None:
    """Compute every headline number, and the coverage by capability, again from the verdict rows.

    The judge's agreement with people follows from its verdicts on their labels.

    The candidate is measured against the incumbent's rows, the incumbent and each baseline alone.

    Raises:
        IntegrityFailure: ``evidence-does-not-recompute`` with the first field that differs, what is stated and what the
            rows give; ``rows-disagree`` or ``points-differ`` when the rows contradict each other or the rule.
    """
    candidate, incumbent = evidence.candidate, evidence.incumbent
    keys = keys_of(candidate.rows)
    named = [("incumbent", incumbent), *((f"baselines.{i}", run) for i, run in enumerate(evidence.baselines))]
    for name, run in named:
        require_same_keys(f"{name}.rows", run.rows, keys)
    require_recomputed("candidate.weights", candidate.weights, evidence.artifact)
    require_recomputed("training.reward", evidence.training.reward, evidence.rubric)
    rule, judge = evidence.rule, evidence.judge
    if judge is not None:
        confidence = rule.decision.confidence
        again = agreement(judge.judge, judge.identity, judge.verdicts, confidence, rule.min_kappa)
        require_recomputed("judge", judge, again)
    require_recomputed("candidate.headline", candidate.headline, headline(candidate.rows, incumbent.rows, rule, judge))
    for name, run in named:
        require_recomputed(f"{name}.headline", run.headline, headline(run.rows, None, rule, judge))
    by_section: dict[str, Counter[str]] = {}
    for section, _, capability in {(row.section, row.id, row.capability) for row in candidate.rows}:
        by_section.setdefault(section, Counter())[capability] += 1
    for part in evidence.coverage:
        if part.dimension == "capability":
            require_recomputed(
                f"coverage.{part.section}.capability", part.counts, dict(by_section.get(part.section, {}))
            )


def _require_comparable(candidate: RunResult, run: RunResult, fields: Set[str]) -> None:
    different = [field for field in sorted(fields) if _same(candidate, field) != _same(run, field)]
    if _judged_by(candidate) != _judged_by(run):
        different.append("judge")
    if different:
        raise InvalidInput(
            "runs-differ",
            f"The runs {candidate.tag} and {run.tag} cannot be compared: they differ in {', '.join(different)}.",
            "Run the eval of both models again, on the same eval set and engine.",
            runs=[candidate.tag, run.tag],
            fields=different,
        )
    if run.quick or run.only is not None:
        raise InvalidInput(
            "quick-run",
            f"The run {run.tag} asked a part of the eval set only; that is never enough to promote.",
            "Run the whole eval.",
            run=run.tag,
        )


def _same(run: RunResult, field: str) -> object:
    """What two comparable runs share of a field; how a model is spoken to is the business of its own base model."""
    return run.engine.model_copy(update={"chat": None}) if field == "engine" else getattr(run, field)


def _judged_by(run: RunResult) -> str | None:
    """Whose verdicts the run rests on. What the judge of an endpoint says about labels may vary; who it is may not."""
    return run.judge.identity if run.judge else None


def _run_evidence(
    run: Run, incumbent: Sequence[VerdictRow] | None, candidate: RunResult, cluster: Cluster
) -> RunEvidence:
    """Rule and judge are the candidate's, and those of every run: see `_require_comparable`.

    Time and tokens are the run's; what they come to is reckoned at the cluster's prices of today.
    """
    rows = sorted_rows(run.rows)
    endpoint = next((baseline.endpoint for baseline in cluster.baselines if baseline.name == run.result.model), None)
    return RunEvidence(
        run_id=run.result.run_id,
        model=run.result.model,
        weights=run.result.weights,
        base=run.result.base,
        rows=rows,
        headline=headline(rows, incumbent, candidate.rule, candidate.judge),
        cost=priced(run.result.cost, len(rows), cluster.prices, endpoint.prices if endpoint else None),
        engine=None if run.result.engine == candidate.engine else run.result.engine,
    )


def _counts(scenarios: Sequence[Scenario], dimension: str) -> dict[str, int]:
    return dict(sorted(Counter(str(getattr(scenario, dimension)) for scenario in scenarios).items()))


RowKeys = dict[tuple[str, str, int, int], tuple[str, str, bool]]
"""Section, scenario, wording and repeat of each answer; its id, capability and whether it is critical."""


def keys_of(rows: Sequence[VerdictRow]) -> RowKeys:
    """The key of each verdict row, with the labels it was asked under."""
    return {
        (row.section, row.scenario, row.wording, row.repeat): (row.id, row.capability, row.critical) for row in rows
    }


def require_same_keys(field: str, rows: Sequence[VerdictRow], keys: RowKeys) -> None:
    """Refuse verdict rows that are about other scenarios than ``keys``.

    Raises:
        IntegrityFailure: ``evidence-does-not-recompute``.
    """
    other = keys_of(rows)
    if other != keys:
        _refuse(field, len(other.keys() & keys.keys()), len(keys), "is about other scenarios")


def require_recomputed(field: str, stated: object, recomputed: object) -> None:
    """Refuse a stated value that the verdict rows do not give.

    Raises:
        IntegrityFailure: ``evidence-does-not-recompute``.
    """
    if isinstance(stated, Frozen) and stated == recomputed:  # of one strict type: nothing is left to tell apart
        return
    for path, value, other in _differences(field, _plain(stated), _plain(recomputed)):
        _refuse(path, value, other, "does not follow from the verdict rows")


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _differences(path: str, value: object, other: object) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    if isinstance(value, dict) and isinstance(other, dict):
        for key in sorted(value.keys() | other.keys()):
            yield from _differences(f"{path}.{key}", value.get(key), other.get(key))
    elif isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        for index, pair in enumerate(zip(value, other, strict=True)):
            yield from _differences(f"{path}.{index}", *pair)
    elif not _equal(value, other):
        yield path, _short(value), _short(other)


def _equal(value: object, other: object) -> bool:
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(value, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return value == other


def _short(value: object) -> JsonValue:
    """A number or text as it is, and how many of anything longer."""
    if isinstance(value, (dict, list)):
        return f"{len(value)} entries"
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _refuse(field: str, stated: JsonValue, recomputed: JsonValue, problem: str) -> None:
    raise IntegrityFailure(
        "evidence-does-not-recompute",
        f"The evidence's {field} {problem}.",
        "Do not trust this evidence; run the governed eval again and build it anew.",
        field=field,
        stated=stated,
        recomputed=recomputed,
    )
