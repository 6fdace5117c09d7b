"""The forge is at GitHub (a server of its shape): the same commands, from the first commit to `verify` elsewhere."""

from __future__ import annotations

import subprocess

import pytest
import tiny
from github_openapi import description
from github_server import GitHubServer
from worlds import CLUSTER, PEOPLE, World

from modelsmith.signing.keys import create_ssh_key
from modelsmith.substrates.base_models import listing_digest


@pytest.fixture
def github(tmp_path):
    with GitHubServer(tmp_path / "github", description()) as server:
        yield server
    assert server.wrong == []


@pytest.fixture
def world(tmp_path, github, tiny_model):
    """A repository that `modelsmith init` put into an empty one at GitHub, made tiny."""
    world = World(tmp_path / "world")
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", world.forge], check=True)
    github.add("acme/promotions", world.forge)
    for name in PEOPLE:
        create_ssh_key(world.folder / "people" / name, f"{name}@example.org")
    enrol = [word for name, role in PEOPLE.items() for word in ("--person", f"{role}={world.key(name)}.pub")]
    made = world.modelsmith(
        "init", "clone", "--forge", f"github:{github.web}/acme/promotions", *enrol, "--json",
        cwd=world.folder, env=as_(world, github.token("harness-gh")),
    )  # fmt: skip
    assert made.code == 0, made.out
    assert world.main() == world.git.rev("main"), "the first commit is at GitHub"
    tiny.shrink(world.clone, tiny_model, listing_digest(tiny_model))
    tiny.commit_to_root(world.clone, world.forge)
    return world


def as_(world, token):
    """The environment of somebody with a token."""
    return world.environment() | {"MODELSMITH_GITHUB_TOKEN": token}


def test_from_the_first_iterate_to_verify_without_github(world, github):
    harness, maya = github.token("harness-gh"), github.token("maya-gh")

    def run(token, *words):
        return world.modelsmith(*words, "--json", env=as_(world, token))

    iterated = run(harness, "iterate", CLUSTER)
    assert iterated.code == 4, iterated.out + iterated.err
    waiting = run(maya, "pr", "list").json["pulls"]
    assert [pull["gate"] for pull in waiting] == ["waiting"]
    number = str(waiting[0]["number"])
    repo = github.repos["acme/promotions"]
    assert repo.pulls[int(number)].state == "open"
    assert repo.pulls[int(number)].title == waiting[0]["title"]

    (comment,) = repo.pulls[int(number)].comments
    assert "It waits for @head-of-trading." in comment["body"]

    assert run(harness, "pr", "merge", number).code == 4, "the gate is shut"
    github.reviewed(repo, repo.pulls[int(number)], "maya-gh", "APPROVE")
    shut = run(harness, "pr", "merge", number)
    assert shut.code == 4, "what is said in GitHub's pages is no signature"
    notes = run(maya, "pr", "show", number).json["pull"]["notes"]
    assert any("maya-gh approved at the forge" in note for note in notes)

    approved = run(maya, "approve", number, "--key", world.key("maya"))
    assert approved.code == 0, approved.out
    assert "every approval is given" in comment["body"], "the one comment was edited"
    assert repo.statuses[-1]["state"] == "success"
    merged = run(harness, "pr", "merge", number)
    assert merged.code == 0, merged.out
    run(harness, "pr", "list")
    assert {pull.state for pull in repo.pulls.values()} == {"closed"}
    assert all(pull.merged_at for pull in repo.pulls.values()), "GitHub shows each as merged"

    elsewhere = world.folder / "elsewhere"
    subprocess.run(["git", "clone", "-q", world.forge, elsewhere], check=True)
    verified = world.modelsmith("verify", "--root", iterated_root(world), "--json", cwd=elsewhere)
    assert verified.code == 0, verified.out
    assert verified.json["approvals"] >= 1

    secrets = [token.encode() for token in github.tokens]
    kept = [path for path in world.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in kept if any(secret in path.read_bytes() for secret in secrets)]


def iterated_root(world):
    return world.git.text("config", "modelsmith.root")
