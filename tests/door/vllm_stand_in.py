"""Enough of vLLM: it answers for its base and for what was loaded, and knows nothing more after a restart."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

from aiohttp import web


class Vllm:
    """What it has loaded, by name; ``changes`` is what was asked of it, in order."""

    def __init__(self):
        self.loaded, self.changes, self.takes = {}, [], True
        self.answers, self.unloads = asyncio.Event(), asyncio.Event()
        """While one is clear, what it names is held up."""
        self.answers.set()
        self.unloads.set()
        self.asked = 0
        self.url = ""

    @property
    def loads(self):
        return sum(action == "load" for action, _ in self.changes)

    @asynccontextmanager
    async def running(self):
        app = web.Application()
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _load(self, request):
        body = json.loads(await request.read())
        self.changes.append(("load", body["lora_name"]))
        if not self.takes:
            return web.json_response({"error": {"message": "rank too large"}}, status=400)
        if body["lora_name"] in self.loaded:
            return web.json_response({"message": "has already been loaded"}, status=400)
        self.loaded[body["lora_name"]] = body["lora_path"]
        return web.Response(text="Success")

    async def _unload(self, request):
        name = json.loads(await request.read())["lora_name"]
        self.changes.append(("unload", name))
        await self.unloads.wait()
        if self.loaded.pop(name, None) is None:
            return web.json_response({"error": {"message": "no such adapter"}}, status=404)
        return web.Response(text="Success")

    async def _chat(self, request):
        name = json.loads(await request.read())["model"]
        if name != "llama" and name not in self.loaded:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        self.asked += 1
        await self.answers.wait()
        choices = [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]
        return web.json_response({"model": name, "choices": choices})
