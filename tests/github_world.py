"""A repository that `modelsmith init` put into an empty one at GitHub (a server of its shape), made tiny."""

from __future__ import annotations

import subprocess

import tiny
from worlds import PEOPLE, World

from modelsmith.signing.keys import create_ssh_key
from modelsmith.substrates.base_models import listing_digest


def make_world(folder, github, tiny_model):
    world = World(folder)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", world.forge], check=True)
    github.add("acme/promotions", world.forge)
    for name in PEOPLE:
        create_ssh_key(world.folder / "people" / name, f"{name}@example.org")
    enrol = [word for name, role in PEOPLE.items() for word in ("--person", f"{role}={world.key(name)}.pub")]
    result = world.modelsmith(
        "init", "clone", "--forge", f"github:{github.web}/acme/promotions", *enrol, "--json",
        cwd=world.folder, env=as_(world, github.token("harness-gh")),
    )  # fmt: skip
    assert result.code == 0, result.out
    assert world.main() == world.git.rev("main"), "the first commit is at GitHub"
    tiny.shrink(world.clone, tiny_model, listing_digest(tiny_model))
    tiny.commit_to_root(world.clone, world.forge)
    return world


def as_(world, token):
    """The environment of somebody with a token."""
    return world.environment() | {"MODELSMITH_GITHUB_TOKEN": token}
