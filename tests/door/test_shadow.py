"""A specialist in the shadow: it gets copies, nobody gets its answers, nobody waits for it, and both sides count."""

from __future__ import annotations

import asyncio
import time

import pytest
from doors import SHADOW, client, until

from modelsmith.door.settings import Limits

TEXT = {"role": "assistant", "content": '{"cause": "timeout"}'}


def shadowed(door, share=None, copied=1.0):
    """Every request is the incumbent's and copied, where nothing else is said."""
    door.copied = copied
    door.serve(share)


def ends(door):
    """How the answers to copies ended, by arm."""
    return {one.arm: end for one, end in door.recorder.ends if one.stage == "shadow"}


def test_the_caller_gets_the_incumbents_answer_and_both_are_counted(play):
    async def scene(door):
        shadowed(door)
        status, headers, answer = await door.ask({"user": "u1"})
        assert (status, headers["x-modelsmith-specialist"]) == (200, "iter-001-0000000a")
        assert answer["choices"][0]["message"]["content"] == "from incumbent"
        await until(lambda: len(door.recorder.ends) == 3)
        both = ends(door)
        assert {arm: (end.status, end.tokens_out) for arm, end in both.items()} == {
            "incumbent": (200, 3), "specialist": (200, 3),
        }  # fmt: skip
        assert both["specialist"].differs is True
        mine, theirs = (one for one in door.recorder.decisions if one.stage == "shadow")
        assert {mine.record, theirs.record} == {SHADOW.record}
        assert (mine.share, mine.unit == theirs.unit) == (0.5, False)
        (asked,), (copied,) = door.incumbent.asked, door.shadow.asked
        assert asked | {"model": "shadow"} == copied

    play(scene)


def test_the_same_answer_in_other_words_of_json_does_not_differ(play):
    async def scene(door):
        door.incumbent.says, door.shadow.says = TEXT, TEXT | {"content": '{ "cause":"timeout" }\n'}
        shadowed(door)
        await door.ask()
        await until(lambda: ends(door))
        assert ends(door)["specialist"].differs is False

    play(scene)


def test_nobody_waits_for_the_shadow_and_a_slow_one_loses_copies(play):
    async def scene(door):
        door.shadow.pause = 1.0
        shadowed(door)
        begin = time.monotonic()
        for _ in range(5):
            assert (await door.ask())[0] == 200
        assert time.monotonic() - begin < 1.0
        await until(lambda: len(ends(door)) == 2)
        assert len(door.shadow.asked) == 2
        await door.ask()
        await until(lambda: len(door.shadow.asked) == 3)

    play(scene, limits=Limits(shadows_at_once=2))


@pytest.mark.parametrize(("status", "expected"), [(500, 500), (429, 502), (404, 502)])
def test_a_shadow_that_fails_is_counted_and_nobody_notices(play, status, expected):
    async def scene(door):
        door.shadow.status = status
        shadowed(door)
        assert (await door.ask())[0] == 200
        await until(lambda: ends(door))
        assert (ends(door)["specialist"].status, ends(door)["incumbent"].status) == (expected, 200)
        assert ends(door)["specialist"].differs is None
        assert len(door.shadow.asked) == 1, "no other try"

    play(scene)


def test_a_fault_in_asking_a_copy_counts_against_the_specialist(play, monkeypatch):
    async def scene(door):
        shadowed(door)
        monkeypatch.setattr("modelsmith.door.shadow.is_answer", lambda whole: 1 / 0)
        assert (await door.ask())[0] == 200
        await until(lambda: len(ends(door)) == 2)
        assert (ends(door)["specialist"].status, ends(door)["incumbent"].status) == (500, 200)

    play(scene)


def test_a_stream_is_copied_as_a_stream(play):
    async def scene(door):
        shadowed(door)
        stream = await client(door.url).chat.completions.create(
            model="pricing", messages=[{"role": "user", "content": "Why?"}], stream=True
        )
        assert "".join([part.choices[0].delta.content async for part in stream]) == "xxxxx"
        await until(lambda: len(ends(door)) == 2)
        assert ends(door)["specialist"].differs is False
        assert ends(door)["specialist"].first_token_ms is not None

    play(scene)


def test_who_hangs_up_leaves_nothing_to_compare(play):
    async def scene(door):
        door.incumbent.pause = 0.3
        shadowed(door)
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.1):
                await door.ask()
        await until(lambda: door.recorder.ends)
        door.incumbent.pause = 0.0
        await door.ask()
        await until(lambda: len(ends(door)) == 2)
        assert len(door.shadow.asked) == 1

    play(scene, limits=Limits(shadows_at_once=1))


def test_requests_of_the_specialist_under_watch_are_not_copied(play):
    async def scene(door):
        shadowed(door, share=1.0)
        await door.ask()
        assert door.shadow.asked == []

    play(scene)


def test_a_share_of_keys_is_copied_and_always_the_same(play):
    async def scene(door):
        shadowed(door, copied=0.5)
        for _ in range(60):
            await door.ask()
        await until(lambda: len(door.recorder.ends) == 60 + 2 * len(door.shadow.asked))
        assert 15 < len(door.shadow.asked) < 45

    play(scene)


def test_a_door_that_closes_leaves_no_copy_behind(play):
    async def scene(door):
        door.shadow.pause = 30.0
        shadowed(door)
        await door.ask()
        await until(lambda: door.shadow.asked)

    begin = time.monotonic()
    play(scene)
    assert time.monotonic() - begin < 15
