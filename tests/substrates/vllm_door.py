"""A front door whose only backend is a real vLLM server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from doors import Opened, opened

import modelsmith
from modelsmith.door.asking import Governed
from modelsmith.door.follow import Follower, _Plan
from modelsmith.door.format_checks import Format
from modelsmith.door.lines import Line
from modelsmith.door.models import Models
from modelsmith.door.settings import Limits, Server, Settings
from modelsmith.governance.router import Rules
from modelsmith.promotion.serving import Arm
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.router import Router, Rule, StickyKey
from modelsmith.substrates.vllm.server import BASE, VllmServer

ROOT = Path(modelsmith.__file__).parents[1]
KEY_VARIABLE = "DOOR_TEST_VLLM_KEY"
DESK = "rtb-pricing"
PATIENT = Limits(silence_seconds=1200.0, total_seconds=1800.0)
"""A server on a CPU with much to do lets its callers wait."""
FEW = 8
"""Tokens that tell models' answers apart. With an adapter, each takes vLLM some hundredths of a second of a CPU."""
NOTE = "Bid rate fell from 41 to 12 in a hundred at 02:00, and answers from Virginia arrive late. Why?"


@asynccontextmanager
async def door_to(
    server: VllmServer, folder: Path, governed: GovernedSet, stored: tuple[Workspace, Arm] | None, share: float = 0.0
) -> AsyncIterator[Opened]:
    """A front door whose only backend is this server; requests with one ``x-user`` stay with one model."""
    workspace, watched = stored or (Workspace(folder / "clone", folder / "home"), None)
    cluster, sampling = load_cluster(WorkTree(ROOT), DESK), governed.evalset.sampling
    asks = Governed(governed.evalset.prompt.system, sampling, cluster.base_model.chat)
    traffic = Line(cluster, "c" * 40, Arm("base", None, ""), watched, share, asks, Format((), cluster.base_model.chat))
    backend = Server(engine="vllm", url=server.url, key_env=KEY_VARIABLE, models={"base": BASE})
    rules = Router(rules=(Rule(name="all", cluster=DESK, key=StickyKey(header="x-user")),))
    os.environ[KEY_VARIABLE] = server.key
    async with opened(folder, PATIENT) as door:
        models = Models(workspace, Settings(backends={DESK: backend}, limits=PATIENT), door.session)
        follower = Follower(workspace, models.make, lambda commit: None, lambda *words: None)

        async def obey(incumbent: Arm, watched: Arm | None, share: float) -> None:
            """A newer main, with who serves and who is under watch."""
            newer = replace(traffic, incumbent=incumbent, watched=watched, share=share)
            await follower._obey(_Plan("c" * 40, Rules(rules, [DESK]), {DESK: newer}, {}))
            door.door.follower.served = follower.served
            assert not follower.troubles

        door.obey = obey
        await obey(traffic.incumbent, watched, share)
        yield door
        await follower.close()
        models.close()
    del os.environ[KEY_VARIABLE]


def request(text: str = NOTE, **more: Any) -> dict[str, Any]:
    return {"model": DESK, "messages": [{"role": "user", "content": text}], "max_tokens": FEW, **more}
