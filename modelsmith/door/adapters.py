"""Adapters in vLLM servers: loaded under their digest's name, and unloaded when nothing here can ask them any more.

A `Lease` is held by each model that asks an adapter. A request under way holds the models that it came to, so the last
lease ends when no cluster names the adapter and no request, caller's or copy, can still go to it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from modelsmith.door.backends import CONNECT_SECONDS
from modelsmith.schema.errors import InfrastructureFailure

_SECONDS: Final = 120.0


class Place(NamedTuple):
    """Where one adapter is loaded."""

    url: str
    """Base URL of the server, up to and with the version."""
    name: str
    """The adapter's name there."""


class Lease:
    """Permission to ask an adapter; it ends with the last reference to it."""

    def __init__(self, place: Place, key: str | None, folder: Path) -> None:
        self.place, self.key, self.folder = place, key, folder


class Adapters:
    """Adapters that this door has loaded into servers. Belongs to one event loop.

    What an earlier door loaded and this one never asked is left alone: another door may ask it. Where two doors share a
    server, one may unload what the other asks; that one then loads it again.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._leases: weakref.WeakValueDictionary[Place, Lease] = weakref.WeakValueDictionary()
        self._changing: dict[Place, asyncio.Lock] = {}
        self._unloading: set[asyncio.Task[None]] = set()
        self._closed = False

    async def lease(self, url: str, artifact: str, key: str | None, folder: Path) -> Lease:
        """The adapter, loaded. Its name is its digest's, so that two never share what is computed for one.

        Raises:
            InfrastructureFailure: ``adapter-not-loaded``.
        """
        place = Place(url.rstrip("/"), f"adapter-{artifact.removeprefix('sha256:')}")
        async with self._lock(place):
            lease = self._leases.get(place)
            if lease is None:
                lease = Lease(place, key, folder)
                await self._load(lease)
                self._leases[place] = lease
                ended = weakref.finalize(lease, partial(self._ended, asyncio.get_running_loop()), place, key)
                ended.atexit = False
            return lease

    async def load_again(self, lease: Lease) -> None:
        """Load it where the server has forgotten it, as after its restart. Raises as `lease`."""
        async with self._lock(lease.place):
            await self._load(lease)

    def close(self) -> None:
        """Leave everything loaded: the next door asks it again."""
        self._closed = True
        for task in self._unloading:
            task.cancel()

    def _lock(self, place: Place) -> asyncio.Lock:
        return self._changing.setdefault(place, asyncio.Lock())

    def _ended(self, loop: asyncio.AbstractEventLoop, place: Place, key: str | None) -> None:
        """In whatever thread let go of it last."""
        with suppress(RuntimeError):  # the loop is closed, and the door with it
            loop.call_soon_threadsafe(self._begin_to_unload, place, key)

    def _begin_to_unload(self, place: Place, key: str | None) -> None:
        if not self._closed:
            task = asyncio.get_running_loop().create_task(self._unload(place, key))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    async def _unload(self, place: Place, key: str | None) -> None:
        """A server that does not hear of it keeps a name too many, which harms nobody; so nothing is said."""
        async with self._lock(place):
            if place not in self._leases:
                await self._post(place, "unload_lora_adapter", key, {})

    async def _load(self, lease: Lease) -> None:
        status, reply = await self._post(
            lease.place, "load_lora_adapter", lease.key, {"lora_path": str(lease.folder.resolve())}
        )
        if status != 200 and not (status == 400 and b"already" in reply):
            raise InfrastructureFailure(
                "adapter-not-loaded",
                f"The server does not take the adapter {lease.place.name}",
                "See that vLLM runs with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, takes adapters of its "
                "rank, and can read the artifact store.",
                status=status,
            )

    async def _post(
        self, place: Place, action: str, key: str | None, fields: Mapping[str, str]
    ) -> tuple[int | None, bytes]:
        """Status and beginning of the answer; no status where none came."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.post(
                f"{place.url}/{action}",
                json={"lora_name": place.name, **fields},
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                return response.status, await response.content.read(4096)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None, b""
