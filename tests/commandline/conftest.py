"""A promotion repository to run commands in. It has no model: nothing here asks one."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from shared import built_once
from warm_gate import stand_in
from worlds import PEOPLE, World

from modelsmith.schema.canonical import sha256
from modelsmith.signing.keys import create_ssh_key


@pytest.fixture(scope="session")
def fresh_template(warm_gate: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    """After `modelsmith init`; nothing has run yet."""

    def build(folder: Path) -> None:
        world = World(folder)
        for name in PEOPLE:
            create_ssh_key(folder / "people" / name, f"{name}@example.org")
        enrol = [word for name, role in PEOPLE.items() for word in ("--person", f"{role}=people/{name}.pub")]
        made = world.modelsmith("init", "clone", "--forge", "forge.git", *enrol, "--json", cwd=folder)
        assert made.code == 0, made.out
        tiny.shrink(world.clone, folder / "model", sha256(b"base model"))
        tiny.commit_to_root(world.clone, world.forge)
        stand_in(world.forge)

    return World(built_once(tmp_path_factory, "commandline-fresh", build))


@pytest.fixture
def fresh(fresh_template: World, tmp_path: Path) -> World:
    """A copy of one's own."""
    return fresh_template.copied_to(tmp_path / "world")
