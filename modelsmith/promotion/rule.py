"""The gate's rule and the full list of verdicts that a governed set calls for. Pure."""

from __future__ import annotations

from modelsmith.repository.load import GovernedSet, scenario_digest
from modelsmith.schema.base import Section
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evalset import Thresholds
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
    )


def expected_rows(governed: GovernedSet) -> dict[RowKey, tuple[str, str, bool]]:
    """Every verdict of a complete run, with the scenario's id, capability and whether it is critical.

    Core and held-out are asked in their own wording, robustness in every variant, micro in its own wording.
    """
    rows: dict[RowKey, tuple[str, str, bool]] = {}
    parts: tuple[tuple[Section, tuple[object, ...]], ...]
    parts = (("core", governed.core), ("robustness", governed.core), ("micro", governed.micro), ("held_out", governed.held_out))
    for section, scenarios in parts:
        for scenario in scenarios:
            wordings = range(1, 1 + len(scenario.variants)) if section == "robustness" else range(1)
            for wording in wordings:
                for repeat in range(governed.evalset.sampling.repeats):
                    key = (section, scenario_digest(scenario), wording, repeat)
                    rows[key] = (scenario.id, scenario.capability, scenario.critical)
    return rows
