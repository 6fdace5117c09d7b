"""Worlds in which agents work: copies of the journeys' repositories, and sessions of each role in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from happenings import plain_clone
from worlds import World, deployed_template, first_iterate, fresh_template

from modelsmith.mcp.calls import Session
from modelsmith.operations.table import Role

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
