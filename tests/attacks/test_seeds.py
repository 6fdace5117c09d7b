"""Attacks on the choice among several seeds: which training of one candidate is proposed, and how many there were."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from attacker import World
from judging import judged

from modelsmith.promotion.records import next_record
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.tries import APART, SeedTries, SeedTry

CLUSTER_FILE = "clusters/rtb-pricing/cluster.yaml"
SEEDS = tuple(17 + APART * number for number in range(3))
SCORES = (0.5, 0.75, 0.25)


@pytest.fixture
def tried(fresh: World) -> World:
    """Main asks for three seeds of every candidate."""
    cluster = yaml.safe_load(fresh.governed().tree.read(CLUSTER_FILE))
    cluster["loop"] = {"seeds": 3}
    number = fresh.propose({CLUSTER_FILE: yaml.safe_dump(cluster, sort_keys=False).encode()}, "petra", "seeds")
    for person in ("dana", "maya"):
        fresh.approve(number, person)
    fresh.merge(number)
    return fresh


def refusal_of(world: World, tries: SeedTries | None, seed: int = SEEDS[1], **other: Any) -> str:
    """What gate and verify say of the world's candidate, told to come of these tries; empty where they pass it."""
    facts = world.training().model_copy(update={"tries": tries, "seed": seed} | other)
    files = {"training.json": canonical_json(facts)}
    record = next_record(world.governed(), "candidate", world.draft(), files)
    gate, replay = judged(world, world.record_files(record, files))
    assert gate.keys() == replay.keys()
    return "; ".join(gate.values())


def all_of(
    world: World, candidate: int, scores: tuple[float, ...] = SCORES, seeds: tuple[int, ...] = SEEDS, prompts_asked=3
):
    """Tries with these scores, of which the candidate is the one with this position."""
    return SeedTries(
        asked=prompts_asked, asked_digest=digest("prompts"),
        each=tuple(
            SeedTry(
                seed=seed, held_in=score,
                artifact=world.draft().artifact if number == candidate else digest(["try", number]),
            )
            for number, (seed, score) in enumerate(zip(seeds, scores, strict=True))
        ),
    )  # fmt: skip


def test_the_best_of_the_registered_seeds_passes(tried):
    """The control: three tries with the registered seeds, of which the candidate scored highest held in."""
    assert not refusal_of(tried, all_of(tried, 1))
    equal = all_of(tried, 1, (0.5, 0.75, 0.75))
    assert not refusal_of(tried, equal), "of several the first"


def test_a_try_that_is_not_the_best_is_no_candidate(tried):
    """Another one than the best held in, which its own seed, its artifact or a tie gives away."""
    for candidate in (0, 2):
        words = refusal_of(tried, all_of(tried, candidate), SEEDS[candidate])
        assert "try 2 scored highest held in, and the candidate is another one" in words
    assert "another one" in refusal_of(tried, all_of(tried, 2, (0.5, 0.75, 0.75)), SEEDS[2]), "of several the first"
    assert "trained by other settings" in refusal_of(tried, all_of(tried, 1), SEEDS[0]), "and it is of that try's seed"


def test_tries_are_as_many_as_main_says_and_of_its_seeds(tried):
    """None or fewer told than there were, more made than registered, a lucky seed among them, or prompts over all."""
    for tries, why in (
        (None, "no tries are named, and the cluster says 3 seeds"),
        (all_of(tried, 1, SCORES[:2], SEEDS[:2]), "2 tries are named"),
        (all_of(tried, 1, (*SCORES, 0.1), (*SEEDS, 17 + 3 * APART)), "4 tries are named"),
        (all_of(tried, 1, seeds=(17, 4242, SEEDS[2])), "other seeds"),
        (all_of(tried, 1, prompts_asked=100_000), "prompts set aside"),
    ):
        assert why in refusal_of(tried, tries), why
    ended = tuple(
        SeedTry(seed=seed, held_in=None, artifact=None, ended="tripped") if number != 1 else seed_try
        for number, (seed, seed_try) in enumerate(zip(SEEDS, all_of(tried, 1).each, strict=True))
    )
    words = refusal_of(tried, all_of(tried, 1).model_copy(update={"each": ended}))
    assert "ended by a tripwire, and no stage has one" in words


def test_where_main_asks_for_one_training_no_other_is_told_of(fresh):
    """A choice that nobody registered."""
    assert "the cluster says one" in refusal_of(fresh, all_of(fresh, 0, (0.9, 0.1, 0.2)), SEEDS[0])


@pytest.mark.xfail(strict=True, reason="neither: what a try scored is the machine's word; training all again finds it")
def test_scores_that_the_machine_made_up_are_refused(tried):
    """The try that does best on the gate's own questions is given the highest score held in."""
    assert refusal_of(tried, all_of(tried, 2, (0.1, 0.1, 0.9)), SEEDS[2])
