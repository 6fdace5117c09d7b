"""Backends of a machine: a vLLM server that takes adapters as it runs, and servers that have their models already."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest
from door.vllm_stand_in import Vllm
from doors import WATCHED, line, until
from worlds import CLUSTER

from modelsmith.door.lines import read_line
from modelsmith.door.models import Models
from modelsmith.door.settings import Settings, load_settings
from modelsmith.door.upstream import FREE, Price
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.serving import Arm
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

ASKED = {"messages": [{"role": "user", "content": "Why?"}]}


async def answer(model):
    async with model.ask(ASKED) as reply:
        return json.loads(b"".join([piece async for piece in reply.pieces]))["model"]


def test_adapters_are_loaded_into_vllm_under_their_digest_s_name(world):
    """And again where the server was restarted; the store's folder is named only after its files were checked."""

    async def scene(stub):
        url = stub.url
        file = world.home / "serve.yaml"
        file.write_text(f"backends: {{{CLUSTER}: {{engine: vllm, url: '{url}', models: {{base: llama}}}}}}\n")
        workspace = Workspace.find(world.clone)
        line_read = read_line(read_governed_state(world.git, "HEAD"), CLUSTER)
        async with aiohttp.ClientSession() as session:
            models = Models(workspace, load_settings(workspace, None), session)
            base, adapter = [await models.make(line_read, arm) for arm in line_read.arms]
            name = f"adapter-{line_read.watched.artifact.removeprefix('sha256:')}"
            assert [await answer(model) for model in (base, adapter)] == ["llama", name]
            assert stub.loaded[name].startswith(str((world.home / "store").resolve()))
            stub.loaded.clear()
            assert await answer(adapter) == name
            assert stub.loads == 2
            del adapter
            await until(lambda: not stub.loaded)
            stub.takes = False
            with pytest.raises(InfrastructureFailure, match="does not take the adapter"):
                await models.make(line_read, line_read.watched)
            staged = replace(
                line_read, shadow=Arm("iter-009-0000000c", line_read.watched.artifact, "sha256:" + "c" * 64)
            )
            aside = {"url": "http://127.0.0.1:9/v1", "shadow_url": url, "engine": "vllm"}
            stub.takes = True
            beside = Models(workspace, Settings.model_validate({"backends": {CLUSTER: aside}}), session)
            assert await answer(await beside.make(staged, staged.shadow)) == name, "asked where the shadow has a server"
            beside.close()
            models.close()

    async def whole():
        async with Vllm().running() as stub:
            await scene(stub)

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        ("{engine: openai, url: 'http://10.0.0.1/v1'}", "endpoint-not-encrypted"),
        ("{engine: openai, url: 'http://127.0.0.1.evil.invalid/v1'}", "endpoint-not-encrypted"),
        ("{engine: openai, url: 'https://x.invalid/v1', key_env: NO_SUCH_KEY}", "key-missing"),
        ("{engine: openai, url: 'https://x.invalid/v1', key_env: TWO_LINES}", "key-unusable"),
        ("{engine: openai, url: 'https://a:b@x.invalid/v1'}", "invalid-file"),
        ("{engine: vllm, url: 'http://127.0.0.1/v1', urls: {x: 'http://10.0.0.1/v1'}}", "endpoint-not-encrypted"),
        ("{engine: none}", "invalid-file"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, fresh_template, backend, code, monkeypatch):
    monkeypatch.setenv("TWO_LINES", "key\nX-Admin: yes")
    file = tmp_path / "serve.yaml"
    file.write_text(f"backends:\n  pricing: {backend}\n")
    with pytest.raises(InvalidInput) as caught:
        load_settings(Workspace(fresh_template.clone, fresh_template.home), file)
    assert caught.value.code == code


def test_a_server_without_a_name_for_a_specialist_is_not_guessed_at(tmp_path, fresh_template):
    async def scene():
        settings = Settings.model_validate_json(
            '{"backends": {"pricing": {"engine": "openai", "url": "https://x.invalid/v1", "models": {"base": "m"}}}}'
        )
        async with aiohttp.ClientSession() as session:
            models = Models(Workspace(fresh_template.clone, fresh_template.home), settings, session)
            with pytest.raises(InvalidInput, match="by which name"):
                await models.make(line(0.5), line(0.5).watched)
            models.close()

    asyncio.run(scene())


def test_each_model_has_the_price_of_its_name_or_that_of_others(tmp_path, fresh_template):
    async def scene():
        backend = {"engine": "openai", "url": "https://x.invalid/v1", "models": {"base": "m"}}
        names = {arm.specialist: "s" for arm in line(0.5).arms}
        priced = {"input": 2, "output": 4}
        all_prices = []
        async with aiohttp.ClientSession() as session:
            for prices in ({}, {"others": priced}, {WATCHED.specialist: priced}):
                more = {"models": {**backend["models"], **names}, "prices": prices}
                settings = Settings.model_validate({"backends": {"pricing": backend | more}})
                models = Models(Workspace(fresh_template.clone, fresh_template.home), settings, session)
                all_prices.append([(await models.make(line(0.5), arm)).price for arm in line(0.5).arms])
                models.close()
        assert all_prices == [[FREE, FREE], [Price(2e-6, 4e-6)] * 2, [FREE, Price(2e-6, 4e-6)]]

    asyncio.run(scene())
