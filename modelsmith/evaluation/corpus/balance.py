"""What an eval set asks about, how much of the composite hangs on it, and whether held-out asks the same. Pure.

A section's score is the mean over its scenarios, and the composite the weighted mean of the sections at hand. So a
scenario carries, of each section that asks it, the section's weight divided by the section's scenarios; what a value of
a dimension carries is the sum over its scenarios. That is what the composite loses when all of them fail.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, get_args

from modelsmith.evaluation.corpus.near_duplicates import NearScenarios, near_duplicates
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.schema.base import Frozen, Section
from modelsmith.schema.figures import format_apart
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.scenario import Scenario

Dimension = Literal["capability", "risk", "operator_lens", "outcome_type"]

FAR: Final = 2.0
"""A value is overweight when it carries more than this many times what the dimension's other values carry on average,
and underweight when it carries less than that average divided by this."""
APART: Final = 0.2
"""Held-out differs when a larger share of it would have to change value before it stood as core does."""
_ROUNDING: Final = 1e-9

FlagKind = Literal["overweight", "underweight", "no-held-out", "held-out-only", "held-out-differs", "near-duplicates"]


class ValueBalance(Frozen):
    """One value of a dimension."""

    value: str
    scenarios: dict[Section, int]
    """Scenarios of that value in each section that the set has."""
    composite: float
    """Share of the composite that they carry, 0 to 1."""
    held_out: float
    """Their share of the held-out scenarios, 0 to 1."""


class DimensionBalance(Frozen):
    """One way to look at the set."""

    dimension: Dimension
    values: tuple[ValueBalance, ...]
    """Heaviest first."""
    even: float
    """What each value would carry if all carried the same."""
    distance: float | None
    """Total variation distance of held-out from core, 0 to 1; None when the set has none of either."""
    moves: int | None
    """The fewest held-out scenarios that would have to change value before held-out stood as core does."""


class Flag(Frozen):
    """Something that a domain owner should look at; no rule of the gate."""

    kind: FlagKind
    dimension: Dimension | None
    value: str | None
    sentence: str


class Balance(Frozen):
    """Balance of an eval set."""

    eval_set: str
    """``<domain>/<set>``."""
    version: str
    scenarios: dict[Section, int]
    """By section that the set has. Robustness asks core scenarios again, in other words."""
    weights: dict[Section, float]
    """Share of each section in the composite; these add up to 1."""
    dimensions: tuple[DimensionBalance, ...]
    near: tuple[NearScenarios, ...]
    flags: tuple[Flag, ...]


def balance(governed: GovernedSet) -> Balance:
    """Reckon it; the order of the scenarios does not matter."""
    by_section = sections(governed)
    weights = _weights(governed, by_section)
    dimensions = tuple(_dimension(name, by_section, weights) for name in get_args(Dimension))
    near = near_duplicates(governed)
    flags = [flag for dimension in dimensions for flag in _flags(dimension, by_section)]
    return Balance(
        eval_set=governed.folder.removeprefix("evals/"),
        version=governed.evalset.version,
        scenarios={section: len(scenarios) for section, scenarios in by_section.items()},
        weights=weights,
        dimensions=dimensions,
        near=near,
        flags=(*flags, *(_near_flag(pair) for pair in near if pair.duplicates)),
    )


def sections(governed: GovernedSet) -> dict[Section, tuple[Scenario, ...]]:
    """The scenarios that each section asks, without sections that ask nothing."""
    by_section: dict[Section, tuple[Scenario, ...]] = {
        "core": governed.core,
        "robustness": tuple(scenario for scenario in governed.core if scenario.variants),
        "micro": governed.micro,
        "held_out": governed.held_out,
    }
    return {section: by_section[section] for section in SECTIONS if by_section[section]}


def _weights(governed: GovernedSet, by_section: Mapping[Section, Sequence[Scenario]]) -> dict[Section, float]:
    weights = governed.evalset.composite
    weight_by_section: dict[Section, float] = {
        "core": weights.core,
        "robustness": weights.robustness,
        "micro": weights.micro,
    }
    weighted = {
        section: weight for section, weight in weight_by_section.items() if section in by_section and weight > 0
    }
    total = math.fsum(weighted.values())
    return {section: weight / total for section, weight in weighted.items()}


def _dimension(
    name: Dimension, by_section: Mapping[Section, Sequence[Scenario]], weights: Mapping[Section, float]
) -> DimensionBalance:
    counts = {
        section: Counter(str(getattr(scenario, name)) for scenario in inside) for section, inside in by_section.items()
    }
    core, held_out = counts["core"], counts.get("held_out", Counter())
    values = [
        ValueBalance(
            value=value,
            scenarios={section: counts[section][value] for section in counts},
            composite=math.fsum(
                weights[section] * counts[section][value] / len(by_section[section]) for section in weights
            ),
            held_out=held_out[value] / held_out.total() if held_out else 0.0,
        )
        for value in set().union(*counts.values())
    ]
    carrying = sum(1 for value in values if value.composite)
    missing = {value: held_out.total() * core[value] - core.total() * held_out[value] for value in core}
    lacking = sum(max(0, short) for short in missing.values())
    return DimensionBalance(
        dimension=name,
        values=tuple(sorted(values, key=lambda value: (-round(value.composite, 9), value.value))),
        even=1 / carrying,
        distance=lacking / (held_out.total() * core.total()) if held_out else None,
        moves=-(-lacking // core.total()) if held_out else None,
    )


def _flags(dimension: DimensionBalance, by_section: Mapping[Section, Sequence[Scenario]]) -> Iterator[Flag]:
    name = dimension.dimension.replace("_", " ")

    def flag(kind: FlagKind, value: str | None, sentence: str) -> Flag:
        return Flag(kind=kind, dimension=dimension.dimension, value=value, sentence=sentence)

    carrying = [value for value in dimension.values if value.composite]
    for value in carrying:
        if len(carrying) == 1:
            continue
        others = (1 - value.composite) / (len(carrying) - 1)
        carries = f"{name} {value.value} carries {value.composite:.0%} of the composite"
        text = f"{carries}; the others carry {others:.0%} on average"
        if value.composite > FAR * others + _ROUNDING:
            yield flag("overweight", value.value, f"{text}.")
        elif value.composite < others / FAR - _ROUNDING:
            yield flag("underweight", value.value, f"{text}.")
    if "held_out" not in by_section:
        return
    for value in dimension.values:
        held_out_count, core = value.scenarios["held_out"], value.scenarios["core"]
        if core and not held_out_count:
            yield flag(
                "no-held-out", value.value, f"{name} {value.value} has no held-out scenario, and {core} in core."
            )
        if held_out_count and not core:
            sentence = f"{name} {value.value} is asked in held-out ({held_out_count}) and never in core."
            yield flag("held-out-only", value.value, sentence)
    if dimension.distance is not None and dimension.distance > APART + _ROUNDING:
        held_out = len(by_section["held_out"])
        sentence = (
            f"{dimension.moves} of {held_out} held-out scenarios would need another {name} to stand as core does."
        )
        yield flag("held-out-differs", None, sentence)


_PLACES: Final = {"core": "in core and micro", "held_out": "in held-out", "held_out_to_core": "of held-out and core"}


def _near_flag(near: NearScenarios) -> Flag:
    pair = near.pairs[0]
    alike, limit = format_apart(pair.similarity, near.limit, 2)
    return Flag(
        kind="near-duplicates",
        dimension=None,
        value=None,
        sentence=(
            f"{near.duplicates} near-duplicate pair{'s' if near.duplicates > 1 else ''} {_PLACES[near.group]}, "
            f"{pair.first} ~ {pair.second} nearest ({alike}; limit {limit})."
        ),
    )
