"""A door that follows a promotion world."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

from doors import Listed
from ports import free_port

from modelsmith.door import server
from modelsmith.door.settings import Settings
from modelsmith.repository.listening import Listening
from modelsmith.repository.workspace import Workspace


@asynccontextmanager
async def door(world, messages=None, settings=None):
    """The world's door with the embedded engine: its address, its follower and what it counts."""
    port, recorder = free_port(), Listed()
    keeper = SimpleNamespace(recorder=recorder, follow=lambda commit: None)
    workspace = Workspace.find(world.clone)
    listening = Listening("127.0.0.1", port)
    say = (messages if messages is not None else []).append
    async with server.opened(workspace, settings or Settings(), listening, keeper, None, say) as follower:
        yield f"http://127.0.0.1:{port}", follower, recorder
