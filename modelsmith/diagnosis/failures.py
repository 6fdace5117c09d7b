"""From a run's observations to failure clusters, in words that carry none of the model's own text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from modelsmith.diagnosis.cases import Case, read_cases
from modelsmith.diagnosis.causes import Group, groups
from modelsmith.schema.base import Slug
from modelsmith.schema.diagnosis import Confusion, FailureCluster, Missed, Severity
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import JsonFieldCheck
from modelsmith.schema.run import Observation
from modelsmith.schema.scenario import Scenario
from modelsmith.substrates.embedder import Embedder

RISK_WEIGHT: Final = {"low": 1, "medium": 2, "high": 3}
HIGH_SHARE: Final = 0.5
"""From this risk-weighted failed share on, a cluster is of high severity; so is any with a critical case."""
MEDIUM_SHARE: Final = 0.2
"""From this risk-weighted failed share on, a cluster is of medium severity."""
PATTERN_SHARE: Final = 0.5
"""A wrong value is the pattern when at least this share of the failed cases gives it."""
_SEVERITIES: Final[tuple[Severity, ...]] = ("high", "medium", "low")


def failure_clusters(
    governed: GovernedSet, observations: Iterable[Observation], embedder: Embedder | None = None
) -> tuple[FailureCluster, ...]:
    """The failures of a run, grouped by capability and cause, most severe first (see `FailureCluster`).

    A case is a scenario: it misses a point when any of its wordings or repeats does. Observations that ended in an
    error carry no verdict and count neither as asked nor as failed. With an ``embedder`` topics go by meaning.

    Raises:
        IntegrityFailure: ``held-out-in-diagnosis`` when an observation is of a held-out scenario.
        InvalidInput: ``unknown-scenario`` when an observation is of a scenario that the eval set does not have.
        InfrastructureFailure: ``extra-missing``, see `topics`.
    """
    cases = read_cases(governed, observations)
    clusters = [
        _cluster(governed, group, cases.by_capability[group.cause.capability])
        for group in groups(governed, cases, embedder)
    ]
    return tuple(sorted(clusters, key=_order))


def _order(cluster: FailureCluster) -> tuple[int, int, float, str, tuple[str, ...], str]:
    return (
        _SEVERITIES.index(cluster.severity),
        -cluster.critical_cases,
        -cluster.risk_share,
        cluster.capability,
        cluster.points,
        cluster.id,
    )


def _cluster(
    governed: GovernedSet,
    group: Group,
    scenarios: Sequence[Scenario],
) -> FailureCluster:
    capability, cases = group.cause.capability, group.cases
    points = _in_order(governed, frozenset[Slug]().union(*(case.missed for case in cases)))
    common = _in_order(governed, frozenset(points).intersection(*(case.missed for case in cases))) or points
    missed = Counter(_in_order(governed, case.missed) for case in cases)
    lenses = Counter(case.scenario.operator_lens for case in cases)
    critical = sum(case.scenario.critical for case in cases)
    share = sum(RISK_WEIGHT[case.scenario.risk] for case in cases) / sum(RISK_WEIGHT[s.risk] for s in scenarios)
    confusions = _confusions(governed, cases)
    main = confusions[0] if confusions and confusions[0].cases >= PATTERN_SHARE * len(cases) else None
    unreadable = sum(case.unreadable for case in cases)
    garbled = unreadable > PATTERN_SHARE * len(cases)
    cut_off = sum(case.cut_off for case in cases)
    mostly_cut = cut_off > PATTERN_SHARE * len(cases)
    pattern = _pattern(common, cases, confusions, main, unreadable, garbled)
    if group.scenarios:
        pattern += (
            f"; {group.scenarios[0]} of {group.scenarios[1]} cases like {group.cause.detail.removeprefix('near-')} fail"
        )
    if group.cause.kind in ("empty", "echo"):
        pattern = f"{'says nothing' if group.cause.kind == 'empty' else 'says the question again'}; {pattern}"
    action = _action(governed, capability, common, cases, main, garbled)
    if mostly_cut:
        limit = governed.evalset.sampling.max_new_tokens
        pattern = f"is cut off at max_new_tokens {limit} ({cut_off} of {len(cases)}); {pattern}"
        action = (
            "read failed answers (`modelsmith results --failures`): where a right answer is longer, raise "
            f"sampling.max_new_tokens in evalset.yaml first; else {action}"
        )
    return FailureCluster(
        id=group.cause.id,
        cause=group.cause.kind,
        capability=capability,
        points=points,
        missed=tuple(Missed(points=some, cases=count) for some, count in missed.most_common()),
        operator_lenses=dict(sorted(lenses.items(), key=lambda item: (-item[1], item[0]))),
        failed_cases=len(cases),
        total_cases=len(scenarios),
        critical_cases=critical,
        risk_share=share,
        severity="high" if critical or share >= HIGH_SHARE else "medium" if share >= MEDIUM_SHARE else "low",
        confusions=confusions,
        cut_off_cases=cut_off,
        pattern=pattern,
        reviewer_action=action,
        next_target=_target(capability, common, cases, main, garbled),
        cases=tuple(sorted(case.scenario.id for case in cases)),
    )


def _in_order(governed: GovernedSet, points: frozenset[Slug]) -> tuple[Slug, ...]:
    return tuple(point.id for point in governed.rubric.points if point.id in points)


def _confusions(governed: GovernedSet, cases: Sequence[Case]) -> tuple[Confusion, ...]:
    """Wrong values, most frequent first; among equals the field that weighs most."""
    counts = Counter(wrong for case in cases for wrong in case.wrong)
    weight: dict[str, float] = {}
    for point in governed.rubric.points:
        if isinstance(point.check, JsonFieldCheck):
            weight[point.check.path] = max(weight.get(point.check.path, 0.0), point.weight)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], -weight[item[0][0]], item[0][0], item[0][1] or "~"))
    return tuple(Confusion(field=field, given=actual, right=right, cases=n) for (field, actual, right), n in ranked)


def _pattern(
    points: tuple[Slug, ...],
    cases: Sequence[Case],
    confusions: tuple[Confusion, ...],
    main: Confusion | None,
    unreadable: int,
    garbled: bool,
) -> str:
    total = len(cases)
    if garbled:
        return f"gives no readable JSON answer ({unreadable} of {total})"
    if main is not None:
        actual = main.given or f"an unknown {main.field}"
        sentence = f"answers {actual} where {main.right} is right ({main.cases} of {total})"
    elif confusions:
        answers = ", ".join(f"{c.given or 'unknown'} ({c.cases})" for c in confusions[:3])
        sentence = f"no single wrong {confusions[0].field} where {confusions[0].right} is right: {answers} of {total}"
    else:
        sentence = f"misses {_listed(points)} ({total} of {total})"
    if not any(case.own_wording for case in cases):
        sentence += "; only in rephrased wordings"
    return sentence


def _action(
    governed: GovernedSet,
    capability: Slug,
    points: tuple[Slug, ...],
    cases: Sequence[Case],
    main: Confusion | None,
    garbled: bool,
) -> str:
    if not any(g.capability == capability and set(g.points) & set(points) for g in governed.generators):
        return f"no generator teaches {_listed(points)} for {capability}: write one"
    if garbled:
        return "none: the answer's form is not learned yet; continue targeted training"
    if main is not None and main.given is None:
        return f"look at the unknown {main.field}: a novel failure, or a value that the rubric lacks"
    if len(cases) == 1:
        return f"read {cases[0].scenario.id}: one case is no pattern yet"
    if not any(case.own_wording for case in cases):
        return "rubric is sound, only rephrasings fail; widen the generator's templates if training does not mend it"
    return "rubric is sound; continue targeted training"


def _target(
    capability: Slug, points: tuple[Slug, ...], cases: Sequence[Case], main: Confusion | None, garbled: bool
) -> str:
    if garbled:
        return f"answer format under {capability}"
    lens = Counter(case.scenario.operator_lens for case in cases)
    name, count = min(lens.items(), key=lambda item: (-item[1], item[0]))
    seen_by = f", as the {name} lens asks" if count > len(cases) / 2 and len(cases) > 1 else ""
    if main is not None and main.given is not None:
        return f"tell {main.right} from {main.given} under {capability}{seen_by}"
    return f"{_listed(points)} under {capability}{seen_by}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
