"""A real door of an attacked world: it listens, follows main and counts; what stands for its weights says one thing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from unittest.mock import patch

from ports import free_port

from modelsmith.door import server
from modelsmith.door.settings import Settings
from modelsmith.loop.keeping import Keeper
from modelsmith.repository.listening import Listening
from modelsmith.substrates.port import Completion


class Speaker:
    """Stands for a loaded model."""

    def speak(self, prompt, *words):
        return Completion(prompt.key, "{}", "stop", 3, 1, 0.0)


@asynccontextmanager
async def open_door(world, messages):
    """Its keeper, whose words are added to ``messages``, and the address of its API."""
    listening = Listening("127.0.0.1", free_port())
    keeper = Keeper(world.workspace, messages.append)
    try:
        with patch("modelsmith.door.models._load", lambda *of: Speaker()):
            async with (
                server.opened(world.workspace, Settings(), listening, keeper, None, messages.append) as follower,
                asyncio.timeout(300),
            ):
                await follower.start()
                yield keeper, f"http://127.0.0.1:{listening.port}/v1"
    finally:
        await asyncio.to_thread(keeper.close)
