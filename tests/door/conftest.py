"""A front door before invented servers, or before a promotion repository with a tiny model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from doors import Opened, opened, run
from worlds import World, deployed_template, first_iterate, fresh_template

__all__ = ["deployed_template", "first_iterate", "fresh_template"]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Runs a scene with an open door."""

    def played(scene: Callable[[Opened], Coroutine[Any, Any, None]], **options: Any) -> None:
        async def whole() -> None:
            async with asyncio.timeout(300), opened(tmp_path, **options) as door:
                await scene(door)

        run(whole)

    return played


@pytest.fixture
def world(deployed_template: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A clone in which the first specialist is deployed, and this process works in it."""
    copied = deployed_template.copied_to(tmp_path / "world")
    for name, value in copied.environment().items():
        monkeypatch.setenv(name, value)
    return copied
