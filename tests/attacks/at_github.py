"""An attacker's place where the forge is GitHub: a world, its fixtures, and pushes past the toolkit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacker import HARNESS, PEOPLE, REVIEW_REF, World, plain_git
from github_openapi import description
from github_server import GitHubServer
from github_settings import SettingsServer

from modelsmith.forges.github.forge import BRANCHES, GitHubForge
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.token import VARIABLES, Token
from modelsmith.forges.logs import SignedLogs
from modelsmith.forges.port import ForgeIdentity

NAME = "acme/promotions"


@dataclass(frozen=True)
class WorldAtGitHub(World):
    """The same place, its bare repository behind GitHub's server."""

    server: GitHubServer

    @property
    def place(self) -> str:
        return f"github:{self.server.web}/{NAME}"

    def hook(self, on: bool) -> None:
        """There is none to let run."""

    def push(self, *refspecs: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Over http, with the token of Oli, who may write there and owns little."""
        place = parse_place(self.place)
        let_in = Token(self.server.token("oli-gh")).for_git(place)
        return plain_git("push", "--force", place.url, *refspecs, folder=self.clone, **let_in, **environment)

    def as_(self, actor: str, key: str | None = None) -> GitHubForge:  # type: ignore[override]
        token = Token(self.server.token(f"{actor}-gh"))
        identity = ForgeIdentity(actor, self.key(key or actor))
        return GitHubForge(parse_place(self.place), token, self.folder / "memory" / actor, self.git, identity)

    def logs(self, actor: str, key: str | None = None) -> SignedLogs:
        forge = self.as_(actor, key)
        forge.fetch_into(self.git)
        return forge._logs


def moved(world: World, github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> WorldAtGitHub:
    """The world, its open pull requests among those that GitHub has, each with its branch."""
    (world.forge / "hooks" / "pre-receive").unlink()
    world.hook(True)
    hub = WorldAtGitHub(world.folder, world.root, github)
    repo = github.add(NAME, world.forge)
    for name in ("receive.denyNonFastForwards", "receive.denyDeletes"):
        world.bare.run("config", name, "false")
    for actor in (*PEOPLE, HARNESS):
        github.token(f"{actor}-gh")
    for pull in world.as_(HARNESS).list():
        branch = f"{BRANCHES.removeprefix('refs/heads/')}{pull.preparer}/{pull.branch}"
        world.bare.run("update-ref", f"refs/heads/{branch}", pull.head)
        repo.issues = pull.number - 1
        github.opened(repo, f"{pull.preparer}-gh", branch, pull.title, pull.body)
    world.git.run("config", "modelsmith.forge", hub.place)
    monkeypatch.setenv(VARIABLES[0], github.token("harness-gh"))
    return hub


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubServer]:
    """Whatever it answered is as GitHub describes it."""
    with SettingsServer(tmp_path / "github", description()) as server:
        yield server
    assert server.wrong == []


@pytest.fixture
def fresh(fresh: World, github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> WorldAtGitHub:
    return moved(fresh, github, monkeypatch)


@pytest.fixture
def waiting(waiting: World, github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> WorldAtGitHub:
    return moved(waiting, github, monkeypatch)


@pytest.fixture
def deployed(deployed: World, github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> WorldAtGitHub:
    return moved(deployed, github, monkeypatch)


def forced(world: WorldAtGitHub, commit: str, ref: str = REVIEW_REF) -> None:
    """Push to a pull request's log, which anybody may who may write there."""
    result = world.push(f"{commit}:{ref}")
    assert result.returncode == 0, result.stderr
