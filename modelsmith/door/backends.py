"""Connections to backends: within the door's room for them, and given up only where the backend is to blame."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import aiohttp
from typing_extensions import override

from modelsmith.door.deadlines import Deadlines
from modelsmith.door.portions import Portions
from modelsmith.door.room import Room

CONNECT_SECONDS: Final = 5.0
"""How long a backend has to take a connection."""
TURNS: Final = 25
"""Looks of the event loop at its sockets, after that time, before a connection is given up; one takes some six."""


class Connections(aiohttp.TCPConnector):
    """A pool without a limit of its own, so nobody waits for another's connection.

    aiohttp gives a connection up when its time is over, and its time goes on while this process is too busy to look: of
    hundreds that begin at once some were given up that the backend had long taken, and it counted as down. So a
    connection is given up when its time is over, and it has not come in so many looks since.
    """

    def __init__(self, room: Room) -> None:
        super().__init__(limit=0, socket_factory=room.socket)
        self._factory = partial(Portions, loop=self._loop)  # type: ignore[assignment]
        self._waits = Deadlines(CONNECT_SECONDS, TURNS)

    @override
    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["timeout"] = aiohttp.ClientTimeout(total=None)
        try:
            async with asyncio.timeout(None) as block:
                wait = self._waits.begin(partial(block.reschedule, 0.0))
                try:
                    return await super()._wrap_create_connection(*args, **kwargs)
                finally:
                    self._waits.end(wait)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from None


def backends(room: Room) -> aiohttp.ClientSession:
    """The session by which backends are asked; a context."""
    return aiohttp.ClientSession(
        connector=Connections(room), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    )
