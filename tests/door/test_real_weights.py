"""Real, tiny weights behind a real door of a real clone: swapped while callers ask, and an export in the shadow."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import yaml
from door.following import door
from doors import client, run, until
from worlds import CLUSTER

from modelsmith.door.asking import as_governed
from modelsmith.door.lines import read_line
from modelsmith.door.models import Models
from modelsmith.door.settings import Settings
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.serving import Arm
from modelsmith.repository.workspace import Workspace

ASKED = {"model": CLUSTER, "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 24}
CLUSTER_FILE = f"clusters/{CLUSTER}/cluster.yaml"


async def said_alone(world, arm, body):
    """What one model says, loaded anew with nobody else beside it."""
    workspace = Workspace.find(world.clone)
    line = read_line(read_governed_state(world.git, "HEAD"), CLUSTER)
    async with aiohttp.ClientSession() as session:
        models = Models(workspace, Settings(), session)
        model = await models.make(line, arm)
        async with model.ask(as_governed(body, line.governed)) as reply:
            whole = json.loads(b"".join([piece async for piece in reply.pieces]))
        models.close()
    return whole["choices"][0]["message"]["content"]


async def must(world, *words):
    result = await asyncio.to_thread(world.modelsmith, *words, "--json")
    assert result.code == 0, result.out + result.err
    return result.json


@asynccontextmanager
async def following(world):
    """The door, which follows main by itself."""
    async with door(world) as (url, follower, recorder):
        await follower.start()
        task = asyncio.create_task(follower.follow())
        yield url, follower, recorder
        task.cancel()


def test_weights_are_swapped_while_callers_ask(first_iterate, tmp_path, monkeypatch):
    """Deployed by a person and rolled back by the contract: no request is lost, each is answered by whom it names."""
    world = first_iterate[0].copied_to(tmp_path / "world")
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    specialist, reported = world.state()["specialist"], []

    async def scene():
        async with following(world) as (url, follower, _):
            stop, caller = asyncio.Event(), client(f"{url}/v1")

            async def ask():
                while not stop.is_set():
                    raw = await caller.chat.completions.with_raw_response.create(**ASKED)
                    answer = raw.parse()
                    assert raw.headers["x-modelsmith-specialist"] == answer.model
                    assert "x-modelsmith-failed-over-from" not in raw.headers
                    reported.append((answer.model, answer.choices[0].message.content))

            callers = [asyncio.create_task(ask()) for _ in range(3)]

            async def wait_for_answers(arm, number):
                """So many more answers of somebody."""
                before = len(reported)
                await until(
                    lambda: (
                        sum(reporter == arm for reporter, _ in reported[before:]) >= number
                        or any(c.done() for c in callers)
                    )
                )

            await wait_for_answers("base", 5)
            await must(world, "approve", "4", "--key", world.key("maya"))
            await must(world, "pr", "merge", "4")
            await wait_for_answers(specialist, 3)
            await must(world, "rollback", CLUSTER, "--reason", "It answers nonsense.")
            await until(lambda: follower.served.clusters[CLUSTER].line.watched is None)
            late = len(reported) + 3
            await wait_for_answers("base", 10)
            stop.set()
            await asyncio.gather(*callers)
            assert {reporter for reporter, _ in reported[late:]} == {"base"}
        artifact = read_governed_state(world.git, "HEAD").histories.find(specialist).artifact
        arms = {"base": Arm("base", None, ""), specialist: Arm(specialist, artifact, "")}
        alone = {name: await said_alone(world, arm, ASKED) for name, arm in arms.items()}
        assert alone["base"] != alone[specialist], "the two cannot be told apart"
        assert set(reported) == set(alone.items())

    run(scene)


async def changed(world, path, edit, opener, approver):
    """A governed file, changed by a pull request that its owner approves."""
    document = yaml.safe_load((world.clone / path).read_text())
    edit(document)
    world.commit("change", {path: yaml.safe_dump(document, sort_keys=False)})
    opened = await must(world, "pr", "open", "change", "--title", "Change", "--key", world.key(opener))
    number = str(opened["pull"]["number"])
    await must(world, "approve", number, "--key", world.key(approver))
    await must(world, "pr", "merge", number)


def with_shadow(cluster):
    cluster["rollback"]["rule"] = {"least_decisions": 100, "errors": {"max_rise": 0.05}}
    cluster["deployment"] = {"traffic_share": 0.1, "shadow_share": 1.0}


def test_a_real_export_answers_copies_in_the_shadow(world):
    """Merged weights, made and accepted here, are loaded beside who serves; nobody gets what they say."""

    async def scene():
        adapter = world.state()["specialist"]
        child = (await must(world, "export", adapter, "--as", "merged"))["specialist"]
        await changed(world, CLUSTER_FILE, with_shadow, "petra", "maya")
        async with following(world) as (url, follower, recorder):
            await until(lambda: follower.served.clusters[CLUSTER].shadow is not None)
            line = follower.served.clusters[CLUSTER].line
            assert (line.shadow.specialist, line.watched.specialist, follower.troubles) == (child, adapter, {})
            caller = client(f"{url}/v1")
            models = {(await caller.chat.completions.create(**ASKED)).model for _ in range(6)}
            assert models <= {"base", adapter}
            by_base = sum(decision.arm == "incumbent" for decision in recorder.decisions if decision.stage != "shadow")
            assert by_base, "all of six with a share of a tenth"
            await until(lambda: sum(ending.stage == "shadow" for ending, _ in recorder.ends) == 2 * by_base)
            ends = [
                end for decision, end in recorder.ends if (decision.stage, decision.arm) == ("shadow", "specialist")
            ]
            alone = [await said_alone(world, arm, ASKED) for arm in (line.incumbent, line.shadow)]
            assert {(end.status, end.tokens_out > 0, end.differs) for end in ends} == {
                (200, True, alone[0] != alone[1])
            }
            assert alone[0] != alone[1], "the export answers as the base model does"

    run(scene)
