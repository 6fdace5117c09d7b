"""Worlds in which agents work: copies of the journeys' repositories, and sessions of each role in them."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from happenings import plain_clone
from ports import free_port
from worlds import CLUSTER, World, deployed_template, first_iterate, fresh_template

from modelsmith.fleet import jobs as of_jobs
from modelsmith.fleet.jobs import Jobs
from modelsmith.mcp.bounds import Connection
from modelsmith.mcp.calls import Session
from modelsmith.mcp.http import make_app
from modelsmith.operations.table import Role
from modelsmith.repository.listening import Listening
from modelsmith.repository.tokens import Tokens
from modelsmith.repository.workspace import Workspace

__all__ = ["deployed_template", "first_iterate", "fresh_template", "plain_clone"]

Enter = Callable[[World], World]


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Copies a world and makes this process one that works in it, as a server for agents does."""

    def make(template: World) -> World:
        world = template.copied_to(tmp_path / "world")
        for name, value in world.environment().items():
            monkeypatch.setenv(name, value)
        return world

    return make


@pytest.fixture
def fresh(fresh_template: World, enter: Enter) -> World:
    """Nothing has run."""
    return enter(fresh_template)


def session(world: World, role: Role, *scopes: str) -> Session:
    """A session in the world's clone."""
    return Session(world.clone, role, scopes or ("*",))


def jobs_of(world: World) -> Jobs:
    """The jobs of the world's clone."""
    return Jobs.of(Workspace.find(world.clone))


@contextmanager
def one_before(world: World) -> Iterator[None]:
    """A job of the cluster that is at work, held by the test itself."""
    jobs = jobs_of(world)
    with pytest.MonkeyPatch.context() as nothing_starts:
        nothing_starts.setattr(of_jobs, "MOST_AT_ONCE", 0)
        asked = jobs.submit(Workspace.find(world.clone), "eval", {}, CLUSTER).job
    asked.folder.mkdir(parents=True)
    with (asked.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        jobs._records.begin(asked.submitted.id, os.getpid())
        yield
        jobs._records.end(asked.submitted.id, 0, {}, None)


@pytest.fixture
def served(fresh: World) -> Iterator[tuple[str, Tokens]]:
    """The world's server, listening, and its tokens."""
    tokens = Tokens(fresh.home)
    port = free_port()
    app = make_app(fresh.clone, tokens, Listening("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", http=Connection))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/mcp", tokens
    server.should_exit = True
    thread.join(60)
