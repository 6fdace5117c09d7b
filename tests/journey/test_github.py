"""The forge is at GitHub (a server of its shape): the same commands, from the first commit to `verify` elsewhere."""

from __future__ import annotations

import subprocess

import pytest
from github_openapi import description
from github_settings import SettingsServer
from github_world import as_, make_world
from worlds import CLUSTER


@pytest.fixture
def github(tmp_path):
    with SettingsServer(tmp_path / "github", description()) as server:
        yield server
    assert server.wrong == []


@pytest.fixture
def world(tmp_path, github, tiny_model):
    return make_world(tmp_path / "world", github, tiny_model)


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
    labels = ["modelsmith: customer-deployed", "modelsmith: gate waiting", "modelsmith: verdict PASS"]
    assert sorted(repo.pulls[int(number)].labels) == labels

    assert run(harness, "pr", "merge", number).code == 4, "the gate is shut"
    github.reviewed(repo, repo.pulls[int(number)], "maya-gh", "APPROVE")
    shut = run(harness, "pr", "merge", number)
    assert shut.code == 4, "what is said in GitHub's pages is no signature"
    notes = run(maya, "pr", "show", number).json["pull"]["notes"]
    assert any("maya-gh approved at the forge" in note for note in notes)

    approved = run(maya, "approve", number, "--key", world.key("maya"))
    assert approved.code == 0, approved.out
    assert "every approval is given" in comment["body"], "the one comment was edited"
    assert "modelsmith: gate open" in repo.pulls[int(number)].labels
    assert "modelsmith: gate waiting" not in repo.pulls[int(number)].labels
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
    files = [path for path in world.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


def iterated_root(world):
    return world.git.text("config", "modelsmith.root")
