"""A tiny promotion repository, promoted once by the product's own functions; every test attacks a copy of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import yaml
from attacker import HARNESS, PEOPLE, World
from shared import built_once
from warm_gate import stand_in
from worlds import Place

from modelsmith.operations.init import InitRequest, run
from modelsmith.promotion.root import root_fingerprint
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import sha256
from modelsmith.signing.keys import create_ssh_key
from modelsmith.signing.ssh import public_key


@pytest.fixture(scope="session", autouse=True)
def _own_git() -> Iterator[None]:
    """No setting of this machine's user or of a calling git has a say."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "MODELSMITH_"))]:
            patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield


@pytest.fixture(scope="session")
def fresh_template(warm_gate: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    """After `modelsmith init`: rules, people and a small eval set; nothing is promoted yet."""
    folder = built_once(tmp_path_factory, "attacks-fresh", _init)
    with ObjectReader(folder / "clone") as git:
        return World(folder, root_fingerprint(git, "main"))


def _init(folder: Path) -> None:
    for name in (*PEOPLE, "mallory", "erin"):
        create_ssh_key(folder / "people" / name, f"{name}@example.org")
    enrolled = tuple(f"{role}=people/{name}.pub" for name, roles in PEOPLE.items() for role in roles)
    made = run(
        Workspace(folder, home=folder / "home"),
        InitRequest(directory=Path("clone"), forge="forge.git", people=enrolled),
    )
    assert made.unheld_roles == ()
    clone = folder / "clone"
    tiny.shrink(clone, folder / "model", sha256(b"base model"))
    people = clone / ".github" / "governance" / "people.yaml"
    document = yaml.safe_load(people.read_text())
    former = {"key": public_key(folder / "people" / "erin"), "valid_before": "2026-01-01T00:00:00Z"}
    document["people"].append({"id": "erin", "name": "Erin", "roles": ["head-of-trading"], "keys": [former]})
    people.write_text(yaml.safe_dump(document, sort_keys=False))
    tiny.commit_to_root(clone, folder / "forge.git")
    stand_in(folder / "forge.git")
    Place(folder).pack()
    assert Workspace(clone, folder / "home").setting("identity") == HARNESS


Advance = Callable[[World, str, Callable[[World], None]], World]


@pytest.fixture(scope="session")
def advanced(tmp_path_factory: pytest.TempPathFactory) -> Advance:
    """Makes a template of the next state: a copy of the last one in which something was done."""

    def make(template: World, state: str, do: Callable[[World], None]) -> World:
        def build(folder: Path) -> None:
            world = template.copied_to(folder)
            do(world)
            world.pack()

        return replace(template, folder=built_once(tmp_path_factory, f"attacks-{state}", build))

    return make


@pytest.fixture(scope="session")
def candidate_template(fresh_template: World, advanced: Advance) -> World:
    """Main knows the first candidate; its evidence is due."""

    def do(world: World) -> None:
        assert world.merge(world.promote("candidate")).status == "merged"

    return advanced(fresh_template, "candidate", do)


@pytest.fixture(scope="session")
def accepted_template(candidate_template: World, advanced: Advance) -> World:
    """Its evidence is accepted; the signed artifact is due."""

    def do(world: World) -> None:
        assert world.merge(world.promote("eval-accepted")).status == "merged"

    return advanced(candidate_template, "accepted", do)


@pytest.fixture(scope="session")
def waiting_template(accepted_template: World, advanced: Advance) -> World:
    """The first specialist is exported; its deployment waits for the head of trading as pull request 4."""

    def do(world: World) -> None:
        assert world.merge(world.promote("artifact-exported")).status == "merged"
        assert world.promote("customer-deployed") == 4

    return advanced(accepted_template, "waiting", do)


@pytest.fixture(scope="session")
def deployed_template(waiting_template: World, advanced: Advance) -> World:
    """Approved by Maya and merged."""

    def do(world: World) -> None:
        world.approve(4, "maya")
        assert world.merge(4).status == "merged"
        assert world.holds().approvals == 1

    return advanced(waiting_template, "deployed", do)


def _copy(template: World, tmp_path: Path) -> Iterator[World]:
    world = template.copied_to(tmp_path / "world")
    world.hook(False)
    yield world
    shutil.rmtree(world.folder, ignore_errors=True)


@pytest.fixture
def fresh(fresh_template: World, tmp_path: Path) -> Iterator[World]:
    """Nothing is promoted yet."""
    yield from _copy(fresh_template, tmp_path)


@pytest.fixture
def candidate(candidate_template: World, tmp_path: Path) -> Iterator[World]:
    """The first candidate's evidence is due."""
    yield from _copy(candidate_template, tmp_path)


@pytest.fixture
def accepted(accepted_template: World, tmp_path: Path) -> Iterator[World]:
    """The first candidate's signed artifact is due."""
    yield from _copy(accepted_template, tmp_path)


@pytest.fixture
def waiting(waiting_template: World, tmp_path: Path) -> Iterator[World]:
    """Pull request 4 waits for the head of trading."""
    yield from _copy(waiting_template, tmp_path)


@pytest.fixture
def deployed(deployed_template: World, tmp_path: Path) -> Iterator[World]:
    """The first specialist serves."""
    yield from _copy(deployed_template, tmp_path)
