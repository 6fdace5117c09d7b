"""Promotion repositories with everything round them, in one folder each: built once for a run, then copied.

The journeys go through the command line as a user does, with a tiny model that really answers and trains; the attacks
(`attacker`) call the product's functions. What both stand on is a `Place`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import pytest
import tiny
import yaml
from shared import built_once
from warm import WarmCommands
from warm_gate import stand_in

from modelsmith.repository.git import Git
from modelsmith.signing.keys import create_ssh_key
from modelsmith.substrates.base_models import listing_digest

CLUSTER = "rtb-pricing"
MAIN = "refs/heads/main"
_COMMIT = re.compile(r"[0-9a-f]{40}")
COMMAND = Path(sys.executable).with_name("modelsmith")
WARM = WarmCommands()
DRIVER = Path(__file__).parent / "journey" / "stop_at.py"
PEOPLE = {
    "maya": "head-of-trading",
    "noor": "head-of-trading",
    "dana": "domain-lead",
    "petra": "platform",
    "oli": "oncall-sre",
}


@dataclass(frozen=True)
class Place:
    """One forge, one clone with the harness in it, one home, and everybody's keys, in one folder."""

    folder: Path

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    @property
    def forge(self) -> Path:
        return self.folder / "forge.git"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def git(self) -> Git:
        return Git(self.clone)

    @property
    def harness_keys(self) -> Path:
        return next((self.home / "keys").iterdir())

    def main(self) -> str:
        """Main of the forge, read from its file where it has one: tests ask for it all the time."""
        file = self.forge / MAIN
        content = file.read_text().strip() if file.is_file() else ""
        commit = content if _COMMIT.fullmatch(content) else Git(self.forge).rev(MAIN)
        assert commit
        return commit

    def pack(self) -> None:
        """Put git's objects into two files, so that a template is copied in a quarter of the time.

        Of what no ref of the forge leads to (what `tiny.commit_to_root` replaced) nothing is kept there.
        """
        for repository in (self.clone, self.forge):
            Git(repository).run("repack", "-a", "-d", "--quiet")
        Git(self.forge).run("prune", "--expire=now")

    def copied_to(self, folder: Path) -> Self:
        """The same somewhere else, with nothing that leads back."""
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", f"{self.folder}/.", folder], check=True)
        config = folder / "clone" / ".git" / "config"
        config.write_text(config.read_text().replace(str(self.folder), str(folder)))
        return replace(self, folder=folder)


@dataclass(frozen=True)
class Ran:
    """One command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; anything else there fails."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document

    @property
    def phases(self) -> set[str]:
        """Phases that a command with ``--json`` spoke of while it worked."""
        return {json.loads(line)["phase"] for line in self.err.splitlines() if line.startswith("{")}


@dataclass(frozen=True)
class World(Place):
    """A promotion repository with a tiny model, used from the command line."""

    @property
    def private(self) -> Path:
        """What the toolkit keeps for the clone."""
        return self.clone / ".git" / "modelsmith"

    def key(self, person: str) -> str:
        """Path of someone's private key."""
        return str(self.folder / "people" / person)

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MODELSMITH_"))}
        return inherited | {
            "MODELSMITH_HOME": str(self.home),
            "HOME": str(self.folder),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def start(self, *command: str | Path, **more: Any) -> subprocess.Popen[str]:
        """Start a command in the clone."""
        options = {"cwd": self.clone, "env": self.environment(), "text": True} | more
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def run(self, *command: str | Path, **more: Any) -> Ran:
        """Run a command in the clone to its end."""
        process = self.start(*command, **more)
        out, err = process.communicate(timeout=300)
        return Ran(process.returncode, out, err)

    def modelsmith(self, *words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Ran:
        """Run ``modelsmith`` in the clone to its end."""
        return Ran(*WARM.run(words, cwd or self.clone, env or self.environment()))

    def stop_at(self, point: str, *words: str) -> Ran:
        """Run ``modelsmith`` and let it die at a point; see stop_at.py. Where a worker is lost, none is a fork."""
        if "fleet.executor" in point or "training.supervisor" in point:
            return self.run(sys.executable, DRIVER, point, *words)
        command = (str(DRIVER), point, *words)
        return Ran(*WARM.run_script(*command, cwd=self.clone, environment=self.environment()))

    def git_command(self, *words: str) -> Ran:
        """Run plain git in the clone, as a user would."""
        identity = ["-c", "user.name=Petra", "-c", "user.email=petra@example.org"]
        return self.run("git", *identity, *words)

    def commit(self, branch: str, files: dict[str, str | None]) -> str:
        """Commit files on a new branch from main, leaving main checked out."""
        self.must("checkout", "--quiet", "-b", branch, "main")
        for name, text in files.items():
            path = self.clone / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.must("add", "--all")
        self.must("commit", "--quiet", "--message", f"Change {', '.join(files)}")
        self.must("checkout", "--quiet", "main")
        return self.git.text("rev-parse", branch)

    def must(self, *words: str) -> str:
        """Run plain git, which must succeed."""
        result = self.git_command(*words)
        assert result.code == 0, result.err
        return result.out

    def pulls(self) -> dict[int, str]:
        """Titles of all pull requests by number."""
        result = self.modelsmith("pr", "list", "--all", "--json")
        assert result.code == 0, result.out
        return {pull["number"]: pull["title"] for pull in result.json["pulls"]}

    def changed(self, path: str, edit: Callable[[dict[str, Any]], object], opener: str, approver: str) -> None:
        """A governed file is changed by pull request, which is approved and merged."""
        document = yaml.safe_load((self.clone / path).read_text())
        edit(document)
        branch = f"change-{len(self.pulls())}"
        self.commit(branch, {path: yaml.safe_dump(document, sort_keys=False)})
        opened = self.modelsmith("pr", "open", branch, "--title", branch, "--key", self.key(opener), "--json").json
        number = str(opened["pull"]["number"])
        for words in (("approve", number, "--key", self.key(approver)), ("pr", "merge", number)):
            result = self.modelsmith(*words, "--json")
            assert result.code == 0, result.out

    def state(self) -> dict[str, Any]:
        """Where the loop stands."""
        state = json.loads((self.private / "state.json").read_bytes())["clusters"][CLUSTER]
        assert isinstance(state, dict)
        return state

    def folder_of(self, event: str) -> Path:
        """The folder of the newest specialist's event, as checked out."""
        return sorted((self.clone / "promotions" / CLUSTER).glob(f"*/*-{event}"))[-1]


def modelsmith(folder: Path, *words: str, **environment: str) -> Ran:
    """A command in a folder whose user has a home of their own beside it."""
    own = World(folder).environment() | {"HOME": str(folder / "user")}
    return Ran(*WARM.run(words, folder, own | environment))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _own(factory: pytest.TempPathFactory, shared: Path) -> World:
    """This worker's copy, in which commands may run."""
    return World(shared).copied_to(factory.mktemp(shared.name) / "world")


@pytest.fixture(scope="session")
def fresh_template(tiny_model: Path, warm_gate: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    """After `modelsmith init`, made tiny; nothing has run yet."""

    def build(folder: Path) -> None:
        world = World(folder)
        people = folder / "people"
        for name in (*PEOPLE, "stranger"):
            create_ssh_key(people / name, f"{name}@example.org")
        enrol = [word for name, role in PEOPLE.items() for word in ("--person", f"{role}={people / name}.pub")]
        result = world.modelsmith("init", "clone", "--forge", "forge.git", *enrol, "--json", cwd=folder)
        assert result.code == 0, result.out
        assert result.json["unheld_roles"] == []
        tiny.shrink(world.clone, tiny_model, listing_digest(tiny_model))
        tiny.commit_to_root(world.clone, world.forge)
        stand_in(world.forge)
        world.pack()

    return _own(tmp_path_factory, built_once(tmp_path_factory, "journey-fresh", build))


@pytest.fixture(scope="session")
def first_iterate(fresh_template: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Ran]:
    """The first `modelsmith iterate` and what it printed; it ended at a pull request that waits."""

    def build(folder: Path) -> None:
        world = fresh_template.copied_to(folder)
        result = world.modelsmith("iterate", CLUSTER, "--json")
        assert result.code == 4, result.out + result.err
        (folder / "ran.json").write_text(json.dumps(asdict(result)))
        world.pack()

    world = _own(tmp_path_factory, built_once(tmp_path_factory, "journey-waiting", build))
    return world, Ran(**json.loads((world.folder / "ran.json").read_text()))


@pytest.fixture(scope="session")
def deployed_template(first_iterate: tuple[World, Ran], tmp_path_factory: pytest.TempPathFactory) -> World:
    """Approved and merged: the first specialist serves."""

    def build(folder: Path) -> None:
        world = first_iterate[0].copied_to(folder)
        for words in (("approve", "4", "--key", world.key("maya")), ("pr", "merge", "4")):
            result = world.modelsmith(*words, "--json")
            assert result.code == 0, result.out
        world.pack()

    return _own(tmp_path_factory, built_once(tmp_path_factory, "journey-deployed", build))
