"""The gate's rule and the full list of verdicts that a governed set calls for. Pure."""

from __future__ import annotations

from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.schema.base import Section
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evalset import Thresholds
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import GateRule, PointWeight

RowKey = tuple[Section, str, int, int]
"""Section, scenario digest, wording, repeat."""


def effective_rule(governed: GovernedSet, cluster: Cluster) -> GateRule:
    """The eval set's registered rule with the stricter of its thresholds and the cluster's."""
    ours, theirs = governed.evalset.thresholds, cluster.gate
    return GateRule(
        points=tuple(PointWeight(id=p.id, weight=p.weight, required=p.required) for p in governed.rubric.points),
        composite=governed.evalset.composite,
        thresholds=Thresholds(
            composite=max(ours.composite, theirs.composite), held_out=max(ours.held_out, theirs.held_out)
        ),
        decision=governed.evalset.decision,
        min_kappa=governed.evalset.judge.min_kappa if governed.evalset.judge else None,
    )


def expected_rows(governed: GovernedSet) -> dict[RowKey, tuple[str, str, bool]]:
    """Every verdict of a complete run, with the scenario's id, capability and whether it is critical."""
    return {
        (ask.section, governed.digests[ask.scenario.id], ask.wording, ask.repeat): (
            ask.scenario.id,
            ask.scenario.capability,
            ask.scenario.critical,
        )
        for ask in plan(governed, SECTIONS, quick=False)
    }
