"""How many requests are under way: the others wait for their turn, and too many are turned away at once.

Callers take turns: whoever sends a thousand requests makes another caller wait for one of them, not for all. While
nobody else asks, one caller may have everything. A cluster may have its part (`holding.part`) and no more, whoever asks
or not: a backend that never answers would hold every turn before others come for theirs.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from modelsmith.door.holding import part
from modelsmith.door.refusal import Refused
from modelsmith.door.settings import Limits

ANYONE = ""
"""Whose requests all are where nobody needs a key."""
_Turns = deque[asyncio.Future[None]]


class Gate:
    """The queue for models, in one event loop: within a caller and cluster, the longest waiter goes first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[str, OrderedDict[str, _Turns]] = OrderedDict()
        """By caller and cluster, whose turn is next first; none is empty. Nobody waits who could have a turn."""
        self._held: Counter[str] = Counter()
        """Turns, by cluster."""
        self._most: dict[str, int] = {}
        """How many each may have."""
        self.inside = 0

    @property
    def waiting(self) -> int:
        """How many requests wait to be let in."""
        return sum(sum(map(len, clusters.values())) for clusters in self._waiting.values())

    @asynccontextmanager
    async def turn(self, caller: str, cluster: str = "", share: float = 1.0) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the block.

        Args:
            caller: Who asks.
            cluster: Whose backend is asked.
            share: Of the turns that is this cluster's, where others may want theirs.

        Raises:
            Refused: 429 ``busy``, with the seconds after which to ask again.
        """
        self._most[cluster] = part(self._limits.at_once, share)
        if self._has_room(cluster):
            self._enter(cluster)
        else:
            await self._wait(caller, cluster, share)
        try:
            yield
        finally:
            self._leave(cluster)

    def _has_room(self, cluster: str) -> bool:
        return self.inside < self._limits.at_once and self._held[cluster] < self._most[cluster]

    def _enter(self, cluster: str) -> None:
        self.inside += 1
        self._held[cluster] += 1

    async def _wait(self, caller: str, cluster: str, share: float) -> None:
        places = self._limits.waiting
        own = sum(map(len, self._waiting.get(caller, {}).values()))
        beside = sum(len(clusters.get(cluster, ())) for clusters in self._waiting.values())
        most = places if caller == ANYONE else -(-places // 2)
        if self.waiting >= places or own >= most or beside >= part(places, share):
            raise Refused(429, "busy", "Too many requests are under way and waiting.", after=1)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, OrderedDict()).setdefault(cluster, deque()).append(turn)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave(cluster)
            else:
                self._forget(caller, cluster, turn)
            if isinstance(error, TimeoutError):
                raise Refused(429, "busy", "There was no turn in time.", after=2) from None
            raise

    def _forget(self, caller: str, cluster: str, turn: asyncio.Future[None]) -> None:
        clusters = self._waiting.get(caller)
        if clusters and turn in clusters.get(cluster, ()):
            clusters[cluster].remove(turn)
            self._tidy(caller, cluster)

    def _tidy(self, caller: str, cluster: str) -> None:
        if not self._waiting[caller][cluster]:
            del self._waiting[caller][cluster]
        if not self._waiting[caller]:
            del self._waiting[caller]

    def _leave(self, cluster: str) -> None:
        self.inside -= 1
        self._held[cluster] -= 1
        while pair := self._next():
            caller, theirs = pair
            turn = self._waiting[caller][theirs].popleft()
            self._waiting[caller].move_to_end(theirs)
            self._waiting.move_to_end(caller)
            self._tidy(caller, theirs)
            if not turn.done():
                turn.set_result(None)
                self._enter(theirs)

    def _next(self) -> tuple[str, str] | None:
        """Caller and cluster whose turn is next."""
        if self.inside >= self._limits.at_once:
            return None
        return next(
            (
                (caller, cluster)
                for caller, clusters in self._waiting.items()
                for cluster in clusters
                if self._has_room(cluster)
            ),
            None,
        )
