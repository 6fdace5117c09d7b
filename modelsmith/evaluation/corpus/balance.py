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
    asked = sections(governed)
    weights = _weights(governed, asked)
    dimensions = tuple(_dimension(name, asked, weights) for name in get_args(Dimension))
    near = near_duplicates(governed)
    flags = [flag for one in dimensions for flag in _flags(one, asked)]
    return Balance(
        eval_set=governed.folder.removeprefix("evals/"),
        version=governed.evalset.version,
        scenarios={section: len(scenarios) for section, scenarios in asked.items()},
        weights=weights,
        dimensions=dimensions,
        near=near,
        flags=(*flags, *(_near_flag(one) for one in near if one.duplicates)),
    )


def sections(governed: GovernedSet) -> dict[Section, tuple[Scenario, ...]]:
    """The scenarios that each section asks, without sections that ask nothing."""
    found: dict[Section, tuple[Scenario, ...]] = {
        "core": governed.core,
        "robustness": tuple(one for one in governed.core if one.variants),
        "micro": governed.micro,
        "held_out": governed.held_out,
    }
    return {section: found[section] for section in SECTIONS if found[section]}


def _weights(governed: GovernedSet, asked: Mapping[Section, Sequence[Scenario]]) -> dict[Section, float]:
    weights = governed.evalset.composite
    given: dict[Section, float] = {"core": weights.core, "robustness": weights.robustness, "micro": weights.micro}
    held = {section: weight for section, weight in given.items() if section in asked and weight > 0}
    total = math.fsum(held.values())
    return {section: weight / total for section, weight in held.items()}


def _dimension(
    name: Dimension, asked: Mapping[Section, Sequence[Scenario]], weights: Mapping[Section, float]
) -> DimensionBalance:
    counts = {section: Counter(str(getattr(one, name)) for one in inside) for section, inside in asked.items()}
    core, held = counts["core"], counts.get("held_out", Counter())
    values = [
        ValueBalance(
            value=value,
            scenarios={section: counts[section][value] for section in counts},
            composite=math.fsum(weights[section] * counts[section][value] / len(asked[section]) for section in weights),
            held_out=held[value] / held.total() if held else 0.0,
        )
        for value in set().union(*counts.values())
    ]
    carrying = sum(1 for one in values if one.composite)
    missing = {value: held.total() * core[value] - core.total() * held[value] for value in core}
    lacking = sum(max(0, short) for short in missing.values())
    return DimensionBalance(
        dimension=name,
        values=tuple(sorted(values, key=lambda one: (-round(one.composite, 9), one.value))),
        even=1 / carrying,
        distance=lacking / (held.total() * core.total()) if held else None,
        moves=-(-lacking // core.total()) if held else None,
    )


def _flags(one: DimensionBalance, asked: Mapping[Section, Sequence[Scenario]]) -> Iterator[Flag]:
    name = one.dimension.replace("_", " ")

    def flag(kind: FlagKind, value: str | None, sentence: str) -> Flag:
        return Flag(kind=kind, dimension=one.dimension, value=value, sentence=sentence)

    carrying = [value for value in one.values if value.composite]
    for value in carrying:
        if len(carrying) == 1:
            continue
        others = (1 - value.composite) / (len(carrying) - 1)
        carries = f"{name} {value.value} carries {value.composite:.0%} of the composite"
        said = f"{carries}; the others carry {others:.0%} on average"
        if value.composite > FAR * others + _ROUNDING:
            yield flag("overweight", value.value, f"{said}.")
        elif value.composite < others / FAR - _ROUNDING:
            yield flag("underweight", value.value, f"{said}.")
    if "held_out" not in asked:
        return
    for value in one.values:
        held, core = value.scenarios["held_out"], value.scenarios["core"]
        if core and not held:
            yield flag(
                "no-held-out", value.value, f"{name} {value.value} has no held-out scenario, and {core} in core."
            )
        if held and not core:
            sentence = f"{name} {value.value} is asked in held-out ({held}) and never in core."
            yield flag("held-out-only", value.value, sentence)
    if one.distance is not None and one.distance > APART + _ROUNDING:
        held_out = len(asked["held_out"])
        sentence = f"{one.moves} of {held_out} held-out scenarios would need another {name} to stand as core does."
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
