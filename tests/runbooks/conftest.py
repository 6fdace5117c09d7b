"""Worlds in which runbooks are run: copies of the journeys' repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import World, deployed_template, first_iterate, fresh_template

__all__ = ["deployed_template", "first_iterate", "fresh_template"]

Copies = Callable[[World], World]


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    """Makes copies."""

    def make(world: World) -> World:
        return world.copied_to(tmp_path / "world")

    return make
