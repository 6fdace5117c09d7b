"""The part of a section that quick mode asks: small, spread over capabilities, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelsmith.schema.scenario import Scenario


def representative(scenarios: Sequence[Scenario], limit: int) -> tuple[Scenario, ...]:
    """At most `limit` scenarios, drawn from the capabilities in turn, in the order of their names.

    Inside a capability critical scenarios come first, then each next one is the scenario that adds most values of risk,
    operator lens and outcome type not yet seen; the id breaks ties. The order of the input does not matter.
    """
    queues = [
        _by_novelty(scenario for scenario in scenarios if scenario.capability == capability)
        for capability in sorted({scenario.capability for scenario in scenarios})
    ]
    longest = max(map(len, queues), default=0)
    turns = (queue[turn] for turn in range(longest) for queue in queues if turn < len(queue))
    return tuple(scenario for scenario, _ in zip(turns, range(limit), strict=False))


def _by_novelty(scenarios: Iterable[Scenario]) -> list[Scenario]:
    remaining = sorted(scenarios, key=lambda scenario: scenario.id)
    covered: set[tuple[str, str]] = set()
    ordered: list[Scenario] = []
    while remaining:
        best = max(remaining, key=lambda scenario: (scenario.critical, len(_values(scenario) - covered)))
        remaining.remove(best)
        covered |= _values(best)
        ordered.append(best)
    return ordered


def _values(scenario: Scenario) -> set[tuple[str, str]]:
    return {("risk", scenario.risk), ("lens", scenario.operator_lens), ("outcome", scenario.outcome_type)}
