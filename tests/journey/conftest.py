"""Worlds of a test's own, in which one uses the product as its users do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worlds import Ran, World, deployed_template, first_iterate, fresh_template

__all__ = ["deployed_template", "first_iterate", "fresh_template"]

Copies = Callable[[World], World]


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    """Makes copies; they are gone after the test."""
    made: list[Path] = []

    def make(world: World) -> World:
        made.append(tmp_path / f"world-{len(made)}")
        return world.copied_to(made[-1])

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh(fresh_template: World, copies: Copies) -> World:
    """A repository in which nothing has run."""
    return copies(fresh_template)


@pytest.fixture
def waiting(first_iterate: tuple[World, Ran], copies: Copies) -> World:
    """A repository whose first deployment waits for the head of trading, as pull request 4."""
    return copies(first_iterate[0])


@pytest.fixture
def deployed(deployed_template: World, copies: Copies) -> World:
    """A repository whose first specialist serves."""
    return copies(deployed_template)
