"""What the benchmark overweights, measured against what the composite really does."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_sets import RUBRIC, governed, scenario

from modelsmith.evaluation.corpus.balance import balance
from modelsmith.evaluation.corpus.near_duplicates import SHOWN, near_duplicates
from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.scoring import point_weights
from modelsmith.evaluation.tally import SECTIONS, composite, tally
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import GateRule, VerdictRow
from modelsmith.texts.similarity import similarity

VALUES = ("one", "two", "three", "four")


@st.composite
def sets(draw: st.DrawFn) -> GovernedSet:
    def some(kind: str, least: int) -> list:
        names = [f"{kind}-{number}" for number in range(draw(st.integers(least, 9)))]
        return [
            scenario(
                name,
                draw(st.sampled_from(VALUES)),
                draw(st.sampled_from(("low", "medium", "high"))),
                draw(st.sampled_from(VALUES)),
                draw(st.sampled_from(VALUES)),
                variants=[f"{name} said otherwise"] * draw(st.integers(0, 2)),
            )
            for name in names
        ]

    weight = st.sampled_from((0.0, 0.25, 1.0, 3.0))
    weights = (draw(st.sampled_from((0.5, 1.0))), draw(weight), draw(weight))
    return governed(some("core", 1), some("held", 0), some("micro", 0), weights)


def part(set_balance, dimension, value):
    dimension_found = next(
        dimension_found for dimension_found in set_balance.dimensions if dimension_found.dimension == dimension
    )
    return next((v.composite for v in dimension_found.values if v.value == value), 0.0)


def kinds(set_balance, dimension=None):
    return {(flag.kind, flag.value) for flag in set_balance.flags if flag.dimension == dimension}


@given(sets())
@settings(deadline=None)
def test_the_parts_of_every_dimension_add_up_to_the_whole_composite(invented):
    for dimension in balance(invented).dimensions:
        assert math.isclose(math.fsum(value.composite for value in dimension.values), 1.0, abs_tol=1e-12)
        assert all(0 <= value.composite <= 1 + 1e-12 for value in dimension.values)
        total = math.fsum(value.held_out for value in dimension.values)
        assert math.isclose(total, 1.0 if invented.held_out else 0.0, abs_tol=1e-12)


@given(sets(), st.sampled_from(("capability", "risk", "operator_lens", "outcome_type")))
@settings(deadline=None)
def test_a_part_is_what_the_composite_loses_when_its_scenarios_fail(invented, dimension):
    rule = GateRule(
        points=point_weights(RUBRIC),
        composite=invented.evalset.composite,
        thresholds=invented.evalset.thresholds,
        decision=invented.evalset.decision,
    )
    row = next(row for row in balance(invented).dimensions if row.dimension == dimension)
    for value in row.values:
        rows = [
            VerdictRow(
                section=sample.section,
                scenario=invented.digests[sample.scenario.id],
                id=sample.scenario.id,
                capability=sample.scenario.capability,
                critical=False,
                wording=sample.wording,
                repeat=sample.repeat,
                points={"cause": getattr(sample.scenario, dimension) != value.value},
            )
            for sample in plan(invented, SECTIONS, quick=False)
        ]
        assert 1 - composite(tally(rows, rule), rule).value == pytest.approx(value.composite, abs=2e-9)


@given(sets(), st.sampled_from(VALUES), st.sampled_from(("core", "core with variants", "micro")))
@settings(deadline=None)
def test_one_more_scenario_of_a_capability_never_lowers_its_part(invented, capability, where):
    more = scenario("one-more", capability, variants=["in other words"] if "variants" in where else ())
    core = (*invented.core, more) if where != "micro" else invented.core
    micro = (*invented.micro, more) if where == "micro" else invented.micro
    weights = invented.evalset.composite
    grown = governed(core, invented.held_out, micro, (weights.core, weights.robustness, weights.micro))
    before, after = (part(balance(some_set), "capability", capability) for some_set in (invented, grown))
    assert after >= before - 1e-12


@given(sets(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_files_does_not_matter(invented, chance: random.Random):
    weights = invented.evalset.composite
    parts = [chance.sample(part, len(part)) for part in (invented.core, invented.held_out, invented.micro)]
    assert balance(governed(*parts, (weights.core, weights.robustness, weights.micro))) == balance(invented)


def test_a_set_that_overweights_one_failure_mode_says_so():
    core = [scenario(f"t-{n}", "timeout") for n in range(14)] + [
        scenario(f"{name}-{n}", name) for name in ("floors", "pacing") for n in range(3)
    ]
    set_balance = balance(governed(core, weights=(1, 0, 0)))
    assert [flag.value for flag in set_balance.flags if flag.kind == "overweight"] == ["timeout"]
    assert part(set_balance, "capability", "timeout") == pytest.approx(0.7)
    sentence = next(flag.sentence for flag in set_balance.flags if flag.kind == "overweight")
    assert sentence == "capability timeout carries 70% of the composite; the others carry 15% on average."


def test_twice_the_others_is_allowed_and_more_is_not():
    even = [scenario(f"a-{n}", "floors") for n in range(2)] + [scenario("b", "pacing")]
    assert kinds(balance(governed(even, weights=(1, 0, 0))), "capability") == set()
    more = [*even, scenario("a-2", "floors")]
    assert kinds(balance(governed(more, weights=(1, 0, 0))), "capability") == {
        ("overweight", "floors"),
        ("underweight", "pacing"),
    }


def test_few_micro_scenarios_make_a_capability_heavy_though_core_is_even():
    core = [scenario(f"{name}-{n}", name) for name in ("floors", "pacing", "timeout") for n in range(4)]
    set_balance = balance(governed(core, micro=[scenario("m", "floors")], weights=(0.5, 0, 0.5)))
    assert part(set_balance, "capability", "floors") == pytest.approx(0.5 / 3 + 0.5)
    assert ("overweight", "floors") in kinds(set_balance, "capability")


def test_a_capability_without_held_out_scenarios_is_named():
    core = [scenario("a", "floors"), scenario("b", "pacing")]
    set_balance = balance(governed(core, held_out=[scenario("h", "floors"), scenario("i", "timeout")]))
    assert {("no-held-out", "pacing"), ("held-out-only", "timeout")} <= kinds(set_balance, "capability")


def test_held_out_that_asks_in_other_proportions_is_said_in_scenarios():
    core = [scenario(f"a-{n}", "floors") for n in range(5)] + [scenario(f"b-{n}", "pacing") for n in range(5)]
    held_out = [scenario(f"h-{n}", "floors") for n in range(8)] + [scenario(f"i-{n}", "pacing") for n in range(2)]
    set_balance = balance(governed(core, held_out))
    dimension = set_balance.dimensions[0]
    assert (dimension.distance, dimension.moves) == (pytest.approx(0.3), 3)
    assert ("held-out-differs", None) in kinds(set_balance, "capability")
    assert "3 of 10 held-out scenarios would need another capability to stand as core does." in [
        flag.sentence for flag in set_balance.flags
    ]
    assert ("held-out-differs", None) not in kinds(balance(governed(core, held_out[1:8] + held_out[8:])), "risk")


def test_a_set_without_held_out_is_not_reproached_with_it():
    set_balance = balance(governed([scenario("a", "floors", text=STORY), scenario("b", "pacing")]))
    assert not set_balance.flags
    assert {dimension.distance for dimension in set_balance.dimensions} == {None}


STORY = "Publishers in Spain raised their minimum price on Monday and 41 percent of our answers came back as too cheap."


def test_the_same_case_told_twice_is_found_within_and_between_sections():
    copy = STORY.replace("41", "57").replace("Monday", "Tuesday")
    core = [scenario("a", text=STORY), scenario("b", text=copy), scenario("c", text="Spend ran out before noon today.")]
    held_out = [
        scenario("x", text=f"Good morning. {copy}"),
        scenario("y", text="A creative failed its review on one site."),
    ]
    near = {duplicate.group: duplicate for duplicate in near_duplicates(governed(core, held_out))}
    assert (near["core"].pairs[0].first, near["core"].pairs[0].second) == ("a", "b")
    assert near["core"].duplicates == 1
    assert near["held_out"].duplicates == 0
    assert near["held_out_to_core"].pairs[0].first == "x"
    assert near["held_out_to_core"].duplicates == 1
    flags = [flag.sentence for flag in balance(governed(core, held_out)).flags if flag.kind == "near-duplicates"]
    assert len(flags) == 2
    assert "a ~ b" in flags[0]


def test_micro_copies_of_core_count_and_a_scenarios_own_variants_do_not():
    core = [scenario("a", text=STORY, variants=[STORY.replace("41", "12")])]
    assert near_duplicates(governed(core)) == ()
    near = near_duplicates(governed(core, micro=[scenario("m", text=STORY)]))
    assert (near[0].duplicates, near[0].pairs[0].similarity) == (1, 1.0)


def test_a_copy_of_another_scenarios_variant_is_found():
    core = [
        scenario("a", text="Win rate fell on two sites.", variants=[STORY]),
        scenario("b", text=STORY.replace("Spain", "Italy")),
    ]
    assert near_duplicates(governed(core))[0].duplicates == 1


def test_a_hundred_copies_are_counted_and_a_few_are_listed():
    core = [scenario(f"a-{n:03d}", text=f"{STORY} {n}") for n in range(100)]
    near = near_duplicates(governed(core))[0]
    assert near.duplicates >= 50
    assert len(near.pairs) == SHOWN
    assert [pair.similarity for pair in near.pairs] == sorted((p.similarity for p in near.pairs), reverse=True)


WORDS = (
    "bid",
    "floor",
    "pacing",
    "spend",
    "auction",
    "timeout",
    "seller",
    "price",
    "budget",
    "traffic",
    "margin",
    "deal",
)


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=4, max_size=12), min_size=2, max_size=30))
@settings(deadline=None)
def test_the_listed_pairs_are_the_nearest_by_brute_force(stories):
    core = [scenario(f"s-{n:02d}", text=" ".join(words)) for n, words in enumerate(stories)]
    texts = {case.id: case.messages[0].content for case in core}
    nearest = {
        name: max(similarity(text, other) for key, other in texts.items() if key != name)
        for name, text in texts.items()
    }
    groups = near_duplicates(governed(core))
    assert groups[0].pairs[0].similarity == pytest.approx(max(nearest.values()))
    for pair in groups[0].pairs:
        assert pair.similarity == pytest.approx(similarity(texts[pair.first], texts[pair.second]))
        assert any(pair.similarity == pytest.approx(nearest[name]) for name in (pair.first, pair.second))
