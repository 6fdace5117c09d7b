"""A specialist in the shadow: it gets copies, nobody gets its answers, nobody waits for it, and both sides count."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from doors import ASKED, CLUSTER, SHADOW, client, until

from modelsmith.door.refusal import Down
from modelsmith.door.settings import Limits
from modelsmith.schema.router import Router, Rule, StickyKey

BY_USER = Router(rules=(Rule(name="all", cluster=CLUSTER, key=StickyKey(body="/user")),))
TEXT = {"role": "assistant", "content": '{"cause": "timeout"}'}


def shadowed(door, share=None, copied=1.0):
    """Every request is the incumbent's and copied, where nothing else is said."""
    door.copied = copied
    door.serve(share)


def ends(door):
    """How the answers to copies ended, by arm."""
    return {decision.arm: end for decision, end in door.recorder.ends if decision.stage == "shadow"}


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
        mine, theirs = (decision for decision in door.recorder.decisions if decision.stage == "shadow")
        assert {mine.record, theirs.record} == {SHADOW.record}
        assert (mine.share, mine.unit == theirs.unit) == (0.5, False)
        (request,), (copied,) = door.incumbent.asked, door.shadow.asked
        assert request | {"model": "shadow"} == copied

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
        door.shadow.hold = asyncio.Event()
        shadowed(door)
        for _ in range(5):
            assert (await door.ask())[0] == 200
        assert not ends(door)
        door.shadow.hold.set()
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


def test_a_fault_in_asking_a_copy_counts_against_the_specialist(play, monkeypatch, caplog):
    """And nothing of what was asked or answered is in the log of it."""

    def faulty(whole):
        raise ValueError(f"Why? {whole}")

    async def scene(door):
        shadowed(door)
        monkeypatch.setattr("modelsmith.door.shadow.is_answer", faulty)
        assert (await door.ask())[0] == 200
        await until(lambda: len(ends(door)) == 2)
        assert (ends(door)["specialist"].status, ends(door)["incumbent"].status) == (500, 200)

    play(scene)
    assert "ValueError" in caplog.text
    assert "Why?" not in caplog.text
    assert "from" not in caplog.text


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
        door.incumbent.hold = asyncio.Event()
        shadowed(door)
        impatient = asyncio.create_task(door.ask())
        await until(lambda: door.incumbent.asked)
        impatient.cancel()
        await until(lambda: door.recorder.ends)
        door.incumbent.hold = None
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
    copied = []

    async def scene(door):
        shadowed(door, copied=0.5)
        door.serve(None, BY_USER)
        for user in range(60):
            await door.ask({"user": f"u{user}"})
        await until(lambda: not door.door.counting.shadows.under_way)
        copied.append({request["user"] for request in door.shadow.asked})

    for _ in range(2):
        play(scene, limits=Limits(shadows_at_once=60))
    assert copied[0] == copied[1]
    assert 15 < len(copied[0]) < 45


class Shy:
    """A model whose server cannot be reached the first time."""

    def __init__(self, model):
        self.model, self.asked = model, 0

    @asynccontextmanager
    async def ask(self, body):
        self.asked += 1
        if self.asked == 1:
            raise Down(503, "connect")
        async with self.model.ask(body) as reply:
            yield reply


def test_a_copy_gets_the_second_try_that_the_incumbent_gets(play):
    async def scene(door):
        shadowed(door)
        served = door.door.follower.served
        ready = served.clusters[CLUSTER]
        shy = Shy(ready.shadow)
        door.door.follower.served = replace(served, clusters={CLUSTER: replace(ready, shadow=shy)})
        await door.ask()
        await until(lambda: len(ends(door)) == 2)
        assert (shy.asked, ends(door)["specialist"].status) == (2, 200)

    play(scene)


async def read_slowly(door, pause):
    """A caller that takes nothing of a stream for so long; whether it got all of it."""
    body = json.dumps(ASKED | {"stream": True}).encode()
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, ("127.0.0.1", door.port))
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
        await loop.sock_sendall(plain, f"{head % door.port}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await asyncio.sleep(pause)
        end = b""
        while piece := await loop.sock_recv(plain, 1 << 16):
            end = (end + piece)[-64:]
            if b"[DONE]" in end:
                return True
    return False


def test_how_slowly_its_caller_reads_is_no_time_of_the_incumbents(play):
    """In production the caller's reading counts for both; a copy has no caller."""

    async def scene(door):
        door.incumbent.piece, door.incumbent.events = "x" * 20_000, 40
        shadowed(door)
        assert await read_slowly(door, 4.0)
        await until(lambda: len(door.recorder.ends) == 3)
        (served,) = (end for name, end in door.recorder.ends if name.stage != "shadow")
        assert served.total_ms > 4000
        assert ends(door)["incumbent"].status == 200
        assert ends(door)["incumbent"].total_ms < 3500

    play(scene, small_buffers=True)


@pytest.mark.parametrize("events", [40, 120], ids=["whole at the door", "more than the door keeps"])
def test_a_caller_too_slow_for_its_answer_is_no_error_of_the_incumbents(play, events):
    async def scene(door):
        door.incumbent.piece, door.incumbent.events = "x" * 20_000, events
        shadowed(door)
        assert not await read_slowly(door, 1.0)
        await until(lambda: door.recorder.ends)
        assert door.recorder.ends[0][1].status == 504
        assert (door.shadow.asked, door.door.counting.shadows.under_way) == ([], 0)

    play(scene, limits=Limits(total_seconds=0.5), small_buffers=True)


def test_a_copy_under_way_when_the_door_closes_counts_as_waited_for(play):
    """Else a door that is opened and closed often would hide a specialist that hangs."""

    async def scene(door):
        door.shadow.pause = 30.0
        shadowed(door)
        await door.ask()
        await until(lambda: door.shadow.asked)
        await asyncio.sleep(0.3)
        await door.door.counting.shadows.close()
        await until(lambda: len(ends(door)) == 2)
        theirs = ends(door)["specialist"]
        assert theirs.hung_up
        assert theirs.total_ms > 250

    play(scene)


def test_a_specialist_that_hangs_takes_no_copies_from_another_cluster(play):
    async def scene(door):
        shadowed(door)
        door.serve(None, None, "support")
        door.shadow.pause = 5.0
        for _ in range(3):
            await door.ask()
        await door.ask({"model": "support"})
        await until(lambda: len(door.shadow.asked) == 2)
        assert {decision.cluster for decision in door.recorder.decisions if decision.stage == "shadow"} == {
            CLUSTER,
            "support",
        }

    play(scene, limits=Limits(shadows_at_once=1))


def test_no_more_copies_are_asked_than_whoever_pays_for_them_allows(play):
    async def scene(door):
        shadowed(door)
        for _ in range(8):
            await door.ask()
            await until(lambda: not door.door.counting.shadows.under_way)
        assert len(door.shadow.asked) == 5

    play(scene, limits=Limits(shadows_in_all=5))


def test_a_sticky_key_is_copied_once_since_only_its_first_answer_counts(play):
    async def scene(door):
        shadowed(door)
        door.serve(None, BY_USER)
        for user in ("u1", "u1", "u2", "u1"):
            await door.ask({"user": user})
            await until(lambda: not door.door.counting.shadows.under_way)
        assert [request["user"] for request in door.shadow.asked] == ["u1", "u2"]

    play(scene)


def test_a_door_that_closes_leaves_no_copy_behind(play):
    async def scene(door):
        door.shadow.pause = 600.0
        shadowed(door)
        await door.ask()
        await until(lambda: door.shadow.asked)

    begin = time.monotonic()
    play(scene)
    assert time.monotonic() - begin < 300
