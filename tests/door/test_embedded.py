"""The engine in this process: one answer at a time, callers in the order they came, copies when no caller waits."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

from doors import ASKED, CLUSTER, INCUMBENT, SHADOW, line, until

from modelsmith.door.embedded import EmbeddedModel, Engine
from modelsmith.door.follow import Ready, Served
from modelsmith.door.settings import Limits
from modelsmith.governance.router import Rules
from modelsmith.live.port import Answered
from modelsmith.substrates.port import Completion


class Speaker:
    """Stands for loaded weights: it notes whose answer it computes, and ends each when it is let go."""

    def __init__(self, name, order, go):
        self.name, self.order, self.go = name, order, go

    def speak(self, prompt, system, sampling, hear, most):
        text = prompt.messages[-1].content
        self.order.append(f"{self.name} {text}")
        hear("a")
        assert self.go.acquire(timeout=60)
        return Completion(prompt.key, "a", "stop", 3, 1, 0.0)


def models(*names):
    order, go, engine = [], threading.Semaphore(0), Engine()
    embedded = [EmbeddedModel(name, Speaker(name, order, go), engine, 100, name == "shadow") for name in names]
    return order, go, engine, embedded


def body(text):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 8}


async def whole(model, text):
    async with model.ask(body(text)) as reply:
        answer = json.loads(b"".join([piece async for piece in reply.pieces]))
    return answer["model"], reply.turn


def test_copies_wait_until_no_caller_does():
    """And a caller who left while waiting costs nobody a turn."""

    async def scene():
        order, go, engine, (served, shadow) = models("served", "shadow")
        first = asyncio.ensure_future(whole(served, "1"))
        await until(lambda: order)
        copies = [asyncio.ensure_future(whole(shadow, str(number))) for number in (1, 2)]
        await asyncio.sleep(0)
        later = [asyncio.ensure_future(whole(served, str(number))) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        later[1].cancel()
        for _ in range(5):
            go.release()
        answers = [await each for each in (first, later[0], later[2], *copies)]
        assert [name for name, _ in answers] == ["served"] * 3 + ["shadow"] * 2
        assert order == ["served 1", "served 2", "served 4", "shadow 1", "shadow 2"]
        assert [turn.waited_ms > 0 for _, turn in answers] == [False, True, True, True, True]
        engine.close()

    asyncio.run(scene())


def test_a_wait_for_a_turn_at_the_engine_is_not_measured_of_either_side(play):
    """Three callers are let in at once by a door of many places; what each side is compared by is its own time."""

    async def scene(door):
        order, go, engine, (served, shadow) = models("served", "shadow")
        copying_line = replace(line(copied=1.0), incumbent=INCUMBENT, shadow=SHADOW)
        clusters = {CLUSTER: Ready(copying_line, served, None, shadow)}
        door.door.follower.served = Served("c" * 40, Rules(None, clusters), clusters)
        tasks = [asyncio.ensure_future(door.ask({"messages": body(str(n))["messages"]})) for n in range(3)]
        await until(lambda: order and door.door._gate.inside == 3)
        await asyncio.sleep(3)
        for _ in range(6):
            go.release()
        assert [status for status, _, _ in [await each for each in tasks]] == [200] * 3
        await until(lambda: len(door.recorder.ends) == 9)
        assert [entry.split()[0] for entry in order] == ["served"] * 3 + ["shadow"] * 3
        mine = [end for decision, end in door.recorder.ends if decision.stage != "shadow"]
        copied = [end for decision, end in door.recorder.ends if decision.stage == "shadow"]
        assert sum(end.total_ms >= 3000 for end in mine) == 3, "callers waited, and that is what they are told"
        assert sum(end.total_ms >= 3000 for end in copied) == 1, "the first had the engine from the beginning"
        engine.close()

    play(scene, limits=Limits(at_once=8))


def test_a_copy_that_waits_is_not_counted_when_the_door_closes(play):
    async def scene(door):
        order, go, engine, (served, shadow) = models("served", "shadow")
        copying_line = replace(line(copied=1.0), incumbent=INCUMBENT, shadow=SHADOW)
        caller = asyncio.ensure_future(whole(served, "1"))
        await until(lambda: order)
        shadows = door.door.counting.shadows
        copy = shadows.begin(Ready(copying_line, served, None, shadow), "k", INCUMBENT, ASKED | {"max_tokens": 8})
        shadows.follow(copy, Answered(200, None, 0.001, 1, 1))
        await asyncio.sleep(0.05)
        await shadows.close()
        assert door.recorder.ends == []
        go.release()
        go.release()
        await caller
        engine.close()

    play(scene)
