"""A backend that is slow, or never answers, holds its own part of the door and leaves the rest to all others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from math import comb

import pytest
from doors import until

from modelsmith.door.holding import CROWDED, part
from modelsmith.door.settings import Limits
from modelsmith.live.store import measured_of

WIDE = Limits(at_once=40, waiting=40, wait_seconds=90.0)
OTHER = "traffic-1"


@pytest.mark.parametrize(("room", "held"), [(1 << 20, 33), (24, 23)], ids=["turns", "connections"])
def test_a_specialist_that_hangs_leaves_turns_and_connections(play, room, held):
    """Beyond its part the incumbent answers in its place, and each such request is a failure of the specialist's."""

    async def scene(door):
        door.door.counting = replace(door.door.counting, room=room)
        door.serve(0.25)
        door.specialist.hold = asyncio.Event()
        requests = list[asyncio.Task]()

        def are_held():
            return sum(not request.done() for request in requests) <= held

        while len(door.specialist.asked) < held or sum(end.failed_over for _, end in door.recorder.ends) < 10:
            requests += [asyncio.create_task(door.ask()) for _ in range(20)]
            await until(are_held)
        assert len(door.specialist.asked) == held
        answers = [request.result() for request in requests if request.done()]
        assert {(status, answer["choices"][0]["message"]["content"]) for status, _, answer in answers} == {
            (200, "from incumbent")
        }
        crowded = [end for decision, end in door.recorder.ends if decision.arm == "specialist"]
        others = [end for decision, end in door.recorder.ends if decision.arm == "incumbent"]
        assert {(end.status, end.failed_over, end.not_asked) for end in crowded} == {(503, True, False)}
        assert all(measured_of(end, 800.0)["errors"] and measured_of(end, 800.0)["slow"] for end in crowded)
        assert not any(measured_of(end, None)["errors"] for end in others)
        assert f'reason="{CROWDED}"'.encode() in door.door.counting.metrics.exposition()
        door.specialist.hold.set()
        assert {(await request)[0] for request in requests} == {200}
        before = len(door.specialist.asked)
        while len(door.specialist.asked) == before:
            assert (await door.ask())[0] == 200

    play(scene, limits=WIDE)


def test_a_cluster_that_hangs_leaves_turns_to_others(play):
    """Its further requests wait, in its own part of the places to wait in; each goes in as one of its own ends."""

    async def scene(door):
        door.serve(None, None, OTHER)
        ready, most = door.door.follower.served.clusters, part(WIDE.at_once, 0.5)
        ready[OTHER] = replace(ready[OTHER], incumbent=replace(ready[OTHER].incumbent, url=door.specialist.url))
        door.incumbent.hold = asyncio.Event()
        hanging = [asyncio.create_task(door.ask()) for _ in range(2 * WIDE.at_once)]
        await until(lambda: sum(request.done() for request in hanging) == 2 * (WIDE.at_once - most))
        assert {(await request)[0] for request in hanging if request.done()} == {429}
        await until(lambda: len(door.incumbent.asked) == most)
        assert door.door._gate.waiting == most
        for _ in range(3):
            assert (await door.ask({"model": OTHER}))[0] == 200
        assert len(door.specialist.asked) == 3
        door.incumbent.hold.set()
        assert [status for status, _, _ in await asyncio.gather(*hanging)].count(200) == 2 * most
        assert (door.door._gate.inside, door.door._gate.waiting) == (0, 0)

    play(scene, limits=WIDE)


def test_one_cluster_that_nobody_shares_with_has_every_turn(play):
    async def scene(door):
        door.specialist.hold = asyncio.Event()
        requests = [asyncio.create_task(door.ask()) for _ in range(WIDE.at_once)]
        await until(lambda: len(door.specialist.asked) == WIDE.at_once)
        door.specialist.hold.set()
        assert {(await request)[0] for request in requests} == {200}

    play(scene, limits=WIDE)


@pytest.mark.parametrize("turns", [1, 8, 20, 40, 64, 160, 320, 640])
def test_chance_alone_leads_no_side_to_its_part(turns):
    """Equally fast sides share the turns as a binomial distribution says; whoever came later would be refused."""
    for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99):
        most = part(turns, share)
        assert most <= turns
        beyond = sum(
            comb(turns, count) * Fraction(share) ** count * (1 - Fraction(share)) ** (turns - count)
            for count in range(most, turns)
        )
        assert beyond * share < 1e-6
