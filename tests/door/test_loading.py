"""The model in the shadow is loaded beside what is served: what main says waits for it at no time."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from doors import ASKED, CLUSTER, INCUMBENT, SHADOW, WATCHED, Listed, line, until

from modelsmith.door import follow
from modelsmith.door.follow import Follower, _Plan
from modelsmith.door.format_checks import FormatChecks
from modelsmith.door.loading import aside
from modelsmith.door.settings import Limits
from modelsmith.door.shadow import Shadows
from modelsmith.governance.router import Rules
from modelsmith.live.port import Answered
from modelsmith.live.unloaded import why_unloaded
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

FINE = Answered(200, None, 5.0, 1, 1)
REFUSED = InfrastructureFailure("adapter-not-loaded", "The backend does not take the adapter", "See to it.")


class Loader:
    """Makes models as a test says; the shadow's only when it is let go."""

    def __init__(self):
        self.go, self.fails, self.begun, self.cancelled = asyncio.Event(), None, 0, 0

    async def make(self, which, arm):
        if arm == SHADOW:
            self.begun += 1
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            if self.fails:
                raise self.fails
        return arm


async def copied(ready):
    """How a copy of a request ended for the specialist; None where none was asked."""
    recorder, formats = Listed(), FormatChecks(1)
    shadows = Shadows(Limits(), recorder, formats)
    copy = shadows.begin(ready, "k", ready.line.incumbent, ASKED)
    if copy:
        shadows.follow(copy, FINE)
        await until(lambda: recorder.ends)
    formats.close()
    return next((end for decision, end in recorder.ends if decision.arm == "specialist"), None)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """Runs a scene with a follower, what obeys a main for it, and the loader."""
    monkeypatch.setattr(follow, "_check_shadow", lambda *args: None)

    def play(acts, seconds=600.0):
        async def whole():
            monkeypatch.setattr(follow, "LOAD_SECONDS", seconds)
            loader = Loader()
            follower = Follower(
                SimpleNamespace(private=tmp_path), loader.make, lambda commit: None, lambda *words: None
            )

            async def obey(which):
                await follower._obey(_Plan("a" * 40, Rules(None, [CLUSTER]), {CLUSTER: which}, {}))
                return follower.served.clusters[CLUSTER]

            async with asyncio.timeout(100):
                await acts(follower, obey, loader)
                await follower.close()

        asyncio.run(whole())

    return play


def test_a_shadow_that_hangs_while_loading_delays_no_takeback(scene):
    async def acts(follower, obey, loader):
        ready = await obey(line(0.5, copied=1.0))
        await until(lambda: loader.begun)
        assert (ready.line.share, ready.shadow, await copied(ready)) == (0.5, None, None)
        taken_back = replace(line(), shadow=None)
        assert (await obey(taken_back)).line.watched is None
        await until(lambda: loader.cancelled == 1)
        assert follower.troubles == {}

    scene(acts)


def test_a_newer_main_with_the_same_shadow_goes_on_loading_it(scene):
    async def acts(follower, obey, loader):
        await obey(line(copied=1.0))
        await obey(line(0.5, copied=1.0))
        loader.go.set()
        await until(lambda: follower.served.clusters[CLUSTER].shadow == SHADOW)
        assert (loader.begun, follower.served.clusters[CLUSTER].line.share) == (1, 0.5)

    scene(acts)


def test_a_shadow_that_cannot_be_loaded_is_said_and_counted(scene, tmp_path):
    """Until it can be: who serves main loads it again when it looks again."""

    async def acts(follower, obey, loader):
        loader.fails = REFUSED
        loader.go.set()
        await obey(line(copied=1.0))
        await until(lambda: follower.troubles)
        assert {subject: error.code for subject, error in follower.troubles.items()} == {
            "shadow of pricing": "adapter-not-loaded"
        }
        assert "does not take" in why_unloaded(tmp_path / "live", CLUSTER, SHADOW.record)
        assert (await copied(follower.served.clusters[CLUSTER])).status == 503
        loader.fails = None
        await obey(line(copied=1.0))
        await until(lambda: follower.served.clusters[CLUSTER].shadow == SHADOW)
        assert (follower.troubles, why_unloaded(tmp_path / "live", CLUSTER, SHADOW.record)) == ({}, None)

    scene(acts)


def test_what_this_machine_lacks_is_not_the_specialists_failure(scene):
    async def acts(follower, obey, loader):
        loader.fails = InvalidInput("no-served-name", "serve.yaml does not name it", "Add it.")
        loader.go.set()
        await obey(line(copied=1.0))
        await until(lambda: follower.troubles)
        assert await copied(follower.served.clusters[CLUSTER]) is None

    scene(acts)


def test_a_shadow_that_takes_long_to_load_is_said_and_counts_for_nothing(scene):
    async def acts(follower, obey, loader):
        await obey(line(copied=1.0))
        await until(lambda: follower.troubles)
        assert [error.code for error in follower.troubles.values()] == ["shadow-not-loaded"]
        assert await copied(follower.served.clusters[CLUSTER]) is None
        await obey(line(copied=1.0))
        assert loader.begun == 1, "what hangs is not begun a second time"
        loader.go.set()
        await until(lambda: follower.served.clusters[CLUSTER].shadow == SHADOW)
        assert follower.troubles == {}

    scene(acts, seconds=0.05)


def test_a_model_that_hangs_holds_up_its_own_cluster_alone(scene, monkeypatch):
    """A deployment of one cluster hangs while it is loaded; another one's is taken back on main, and later its own."""
    loads = []

    async def acts(follower, obey, loader):
        def patience(seconds):
            monkeypatch.setattr(follow, "PATIENCE_SECONDS", seconds)

        async def make(which, arm):
            loads.append((which.cluster.cluster, arm))
            if (which.cluster.cluster, arm) == ("support", WATCHED):
                await loader.go.wait()
            return arm

        follower._make = make

        async def both(first, second):
            lines = {CLUSTER: line(first), "support": line(second, "support")}
            lines = {
                name: replace(each_line, standing=frozenset({INCUMBENT.specialist}))
                for name, each_line in lines.items()
            }
            await follower._obey(_Plan("a" * 40, Rules(None, [*lines]), lines, {}))
            return [follower.served.clusters[name].line.share for name in lines]

        patience(300.0)
        assert await both(0.5, None) == [0.5, 0.0]
        patience(0.1)
        assert await both(0.5, 0.5) == [0.5, 0.0], "support goes on as it was"
        assert follower.troubles["support"].code == "model-loading"
        patience(300.0)
        assert await both(None, 0.5) == [0.0, 0.0], "the other's takeback waits for nothing"
        follower._again = 1.0
        loader.go.set()
        await until(lambda: follower._again == 0.0)
        assert await both(None, 0.5) == [0.0, 0.5]
        assert follower.troubles == {}
        assert loads.count(("support", WATCHED)) == 1
        loader.go.clear()
        assert await both(None, None) == [0.0, 0.0]
        patience(0.1)
        assert await both(None, 0.5) == [0.0, 0.0]
        assert await both(None, None) == [0.0, 0.0]
        assert follower._making == {}, "what no main asks for is loaded no longer"

    scene(acts)


def test_a_thread_that_hangs_holds_up_no_other_and_no_end():
    async def acts():
        stuck = asyncio.create_task(aside(lambda: hang.wait()))
        assert await aside(lambda: 7) == 7
        stuck.cancel()
        with pytest.raises(ZeroDivisionError):
            await aside(lambda: 1 / 0)

    hang = threading.Event()
    asyncio.run(acts())
    hang.set()
