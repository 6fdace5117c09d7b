"""Adapters in a vLLM server: one is loaded for as long as a cluster or a request can ask it, and then unloaded."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from door.vllm_stand_in import Vllm
from doors import CLUSTER, INCUMBENT, SHADOW, WATCHED, line, until

from modelsmith.door.follow import Follower, _Plan
from modelsmith.door.models import Models
from modelsmith.door.settings import Settings
from modelsmith.governance.router import Rules

OLD = replace(INCUMBENT, artifact="sha256:" + "1" * 64)
NEW = replace(WATCHED, artifact="sha256:" + "2" * 64)


def named(arm):
    return f"adapter-{arm.artifact.removeprefix('sha256:')}"


def served(incumbent, watched=None, shadow=None):
    """A line with these arms."""
    line_made = line(0.5 if watched else None, copied=1.0 if shadow else 0.0)
    return replace(line_made, incumbent=incumbent, watched=watched, shadow=shadow)


def models_of(vllm, session):
    backend = {"engine": "vllm", "url": vllm.url}
    return Models(None, Settings.model_validate({"backends": {CLUSTER: backend}}), session)


@pytest.fixture
def scene(monkeypatch):
    """Runs a scene with a stand-in of vLLM and what makes models of it."""
    monkeypatch.setattr("modelsmith.door.models._adapter", lambda *of: Path("/store"))

    def play(acts):
        @asynccontextmanager
        async def before():
            async with Vllm().running() as vllm, aiohttp.ClientSession() as session:
                models = models_of(vllm, session)
                yield vllm, models
                models.close()

        async def whole():
            async with asyncio.timeout(100), before() as (vllm, models):
                await acts(vllm, models)

        asyncio.run(whole())

    return play


async def by(model):
    async with model.ask({"messages": [{"role": "user", "content": "Why?"}]}) as reply:
        return json.loads(b"".join([piece async for piece in reply.pieces]))["model"]


def test_an_adapter_is_unloaded_after_its_last_request(scene):
    async def acts(vllm, models):
        model = await models.make(served(OLD), OLD)
        vllm.answers.clear()
        answer = asyncio.ensure_future(by(model))
        del model
        await until(lambda: vllm.asked)
        other = await models.make(served(NEW), NEW)
        assert vllm.changes == [("load", named(OLD)), ("load", named(NEW))], "a request is under way"
        vllm.answers.set()
        assert await answer == named(OLD)
        del answer
        await until(lambda: list(vllm.loaded) == [named(NEW)])
        assert await by(other) == named(NEW)

    scene(acts)


def test_an_adapter_that_is_wanted_while_it_is_unloaded_is_loaded_again(scene):
    async def acts(vllm, models):
        vllm.unloads.clear()
        await models.make(served(OLD), OLD)
        await until(lambda: ("unload", named(OLD)) in vllm.changes)
        making = asyncio.ensure_future(models.make(served(OLD), OLD))
        await asyncio.sleep(0.05)
        assert vllm.changes[-1] == ("unload", named(OLD)), "one change of an adapter at a time"
        vllm.unloads.set()
        assert await by(await making) == named(OLD)
        assert vllm.loads == 2

    scene(acts)


def test_an_adapter_that_another_arm_asks_stays(scene):
    async def acts(vllm, models):
        twin = replace(SHADOW, artifact=OLD.artifact)
        original, copied = await models.make(served(OLD), OLD), await models.make(served(NEW, shadow=twin), twin)
        assert vllm.loads == 1
        del original
        await models.make(served(NEW), NEW)
        await until(lambda: list(vllm.loaded) == [named(OLD)])
        assert await by(copied) == named(OLD)

    scene(acts)


def test_deployments_and_rollbacks_lose_no_request_and_leave_no_adapter(play, monkeypatch):
    """Callers ask without a pause while main deploys, validates, takes back, and deploys again."""
    monkeypatch.setattr("modelsmith.door.models._adapter", lambda *of: Path("/store"))

    async def acts(door, vllm, models):
        follower = Follower(SimpleNamespace(private=Path("/nowhere")), models.make, lambda commit: None, print)
        reported, stop = [], asyncio.Event()

        async def obey(which):
            await follower._obey(_Plan("a" * 40, Rules(None, [CLUSTER]), {CLUSTER: which}, {}))
            door.door.follower.served = follower.served

        async def ask():
            for number in count():
                if stop.is_set():
                    return
                status, headers, answer = await door.ask({"user": f"u{number}"})
                reported.append((status, headers["x-modelsmith-specialist"], answer["model"]))

        await obey(served(OLD))
        callers = [asyncio.ensure_future(ask()) for _ in range(8)]
        for which in (served(OLD, NEW), served(NEW), served(OLD), served(OLD, NEW), served(OLD)):
            await obey(which)
            before = len(reported)
            await until(lambda least=before + 20: len(reported) >= least)
        stop.set()
        await asyncio.gather(*callers)
        await until(lambda: list(vllm.loaded) == [named(OLD)])
        assert set(reported) == {(200, arm.specialist, named(arm)) for arm in (OLD, NEW)}
        assert {end.failed_over for _, end in door.recorder.ends} == {False}
        changes = [(action, {named(OLD): "old", named(NEW): "new"}[name]) for action, name in vllm.changes]
        assert changes.count(("load", "old")) == changes.count(("unload", "old")) + 1
        assert changes.count(("load", "new")) == changes.count(("unload", "new")) == 2
        await follower.close()

    async def with_door(door):
        async with Vllm().running() as vllm:
            models = models_of(vllm, door.session)
            await acts(door, vllm, models)
            models.close()

    play(with_door)
