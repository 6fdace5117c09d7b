"""The door's process: it listens, follows main, answers, and ends without losing what is under way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from modelsmith.door.app import Door
from modelsmith.door.backends import backends
from modelsmith.door.connection import Runner
from modelsmith.door.exchange import Counting
from modelsmith.door.follow import Follower
from modelsmith.door.format_checks import FormatChecks
from modelsmith.door.journal import Journal
from modelsmith.door.metrics import DoorMetrics
from modelsmith.door.models import Models
from modelsmith.door.room import CODE, MEND, Room, raise_limit
from modelsmith.door.settings import Settings
from modelsmith.door.shadow import Shadows
from modelsmith.door.telemetry import open_telemetry
from modelsmith.fleet.doors import EVERY, DoorSign, doors_folder
from modelsmith.loop.keeping import Keeper
from modelsmith.repository.listening import Listening, address_taken, refuse_plain, tls
from modelsmith.repository.tokens import Tokens
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput, ModelsmithError

LOG = Path("logs", "door.jsonl")
"""File of the log, in the clone's private folder."""
SWITCH_SECONDS = 5e-4
"""How long a thread that counts or checks may keep the interpreter while a request waits for it. Python's own 5 ms made
each request wait for those threads; with a fifth of this the two take it from each other more than they use it. The
process does nothing else."""
_IDLE_SECONDS = 75.0
"""How long a connection may be open without a whole request."""
_END_SECONDS = 30.0
"""How long requests under way may take when the door closes."""


def serve(
    workspace: Workspace,
    settings: Settings,
    listening: Listening,
    keys: Tokens | None,
    say: Callable[[str], None],
) -> None:
    """Serve until interrupted or told to end.

    Raises:
        InvalidInput: ``tls-needed``, ``no-callers``, ``keys-needed``, ``bad-certificate``.
        InfrastructureFailure: ``address-taken``, ``key-not-written``.
        ModelsmithError: main does not verify and never did, or no cluster's models are at hand.
    """
    refuse_plain(listening)
    if keys is None and not listening.local:
        raise InvalidInput("keys-needed", "Other machines reach this door", "Leave --no-keys out.", host=listening.host)
    if keys is not None and not keys.all():
        raise InvalidInput(
            "no-callers",
            "Nobody has a key yet, so nobody could ask anything",
            "Issue one: `modelsmith serve-key issue`; or, to try it out on this machine, give --no-keys.",
        )
    keeper = Keeper(workspace, say)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(workspace, settings, listening, keeper, keys, say))
    finally:
        keeper.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the door's event loop: uvloop where it is installed, which takes less of the processor."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(
    workspace: Workspace,
    settings: Settings,
    listening: Listening,
    keeper: Keeper,
    keys: Tokens | None,
    say: Callable[[str], None],
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with opened(workspace, settings, listening, keeper, keys, say) as follower:
        say(f"port {listening.port}: main is verified and its models are loaded first; until then: 503 not-ready")
        served = await follower.start()
        following = asyncio.create_task(follower.follow())
        names = ", ".join(sorted(served.clusters))
        say(f"{listening.scheme}://{listening.host}:{listening.port}/v1  main {served.commit[:12]}  serves {names}")
        await ended.wait()
        say("closing: requests under way are answered first")
        following.cancel()


@asynccontextmanager
async def opened(
    workspace: Workspace,
    settings: Settings,
    listening: Listening,
    keeper: Keeper,
    keys: Tokens | None,
    say: Callable[[str], None],
) -> AsyncIterator[Follower]:
    """The door, listening; it serves nothing before its follower has started. What is under way ends with the block."""
    journal = Journal(workspace.private / LOG, say)

    def report(source: str, error: ModelsmithError | None) -> None:
        if error is None:
            journal.note("mended", of=source)
            say(f"{source}: obeyed again")
            return
        journal.note("trouble", of=source, code=error.code, message=error.message, mend=error.mend)
        words = error.message.rstrip(".")
        say(f"NOT OBEYED, {source} ({error.code}): {words}. What can be served goes on. {error.mend}")

    limit = raise_limit()

    def full() -> None:
        words = f"connections are refused: of {limit} files that this process may open, most are taken"
        journal.note("trouble", of="connections", code=CODE, message=words, mend=MEND)
        say(f"NO ROOM: {words}. Those that are open are answered. {MEND}")

    metrics = DoorMetrics()
    room = Room(limit, settings.limits.at_once, full, refused=metrics.turned_away)
    async with backends(room) as session:
        models = Models(workspace, settings, session)
        follower = Follower(workspace, models.make, keeper.follow, report)
        formats = FormatChecks(settings.limits.checked_at_once)
        telemetry = open_telemetry(os.environ, say)
        shadows = Shadows(settings.limits, keeper.recorder, formats)
        sign = DoorSign(doors_folder(workspace.home))
        counting = Counting(
            settings.limits, keeper.recorder, journal, metrics, formats, shadows, telemetry, sign, room.kept
        )
        door = Door(follower, counting, frozenset(listening.hosts), keys)
        runner = Runner(
            door.app(),
            room,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=_IDLE_SECONDS,
            shutdown_timeout=_END_SECONDS,
        )
        await runner.setup()
        signing = asyncio.create_task(tell_busy(door, sign, journal))
        try:
            site = web.TCPSite(runner, listening.host, listening.port, ssl_context=tls(listening))
            try:
                await site.start()
            except OSError as error:
                raise address_taken(listening, error) from None
            yield follower
        finally:
            await follower.close()
            await runner.cleanup()
            signing.cancel()
            await asyncio.to_thread(sign.close)
            await shadows.close()
            if telemetry:
                await asyncio.to_thread(telemetry.close)
            formats.close()
            models.close()
            journal.close()


async def tell_busy(door: Door, sign: DoorSign, journal: Journal) -> None:
    """Say some times a second how busy the door is; whoever trains on this machine waits by it."""
    reported = False
    while True:
        try:
            await asyncio.to_thread(sign.write, door.requests, sign.recent())
            reported = False
        except OSError as error:
            if not reported:
                journal.note("trouble", of="sign", message=f"trainings cannot see the door: {error.strerror}")
            reported = True
        await asyncio.sleep(EVERY)
