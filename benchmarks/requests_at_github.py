"""What a day at GitHub asks for: `status`, `pr list`, `pr open`, `approve` and `pr merge` at a server of its shape.

The repositories are those of ``governance.py``, at 10, 100 and 1,000 promotions, and each size has a clone that has
spoken to the forge once before, as a harness's has. Each command is a new process. Requests are counted by the server,
REST and git apart; its own processor time is not the command's. Seconds are of the processor (user and system, children
included) and of the clock, which holds the second that GitHub asks for between two requests that change something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, WORK, machine, modelsmith_command, save, table
from governance_history import Place, make_repository

from modelsmith.repository.git import Git
from modelsmith.schema.pull import PullRequest

sys.path.insert(0, str(ROOT / "tests"))
from github_server import GitHubServer, Pull
from github_settings import SettingsServer

SIZES = (10, 100, 1000)
NAME = "acme/promotions"
BRANCH = "notes"


class Day:
    """One clone, its forge at GitHub, and what was asked of it."""

    def __init__(self, place: Place, server: GitHubServer, folder: Path) -> None:
        self.place, self.server, self.clone = place, server, folder / "clone"
        self.pending = PullRequest.model_validate_json(place.pending.read_text())
        bare = folder / "forge.git"
        for source, copy in ((place.forge, bare), (place.clone, self.clone)):
            subprocess.run(["cp", "-a", source, copy], check=True)
        repo = server.add(NAME, bare)
        branch = f"modelsmith/{self.pending.preparer}/{self.pending.branch}"
        Git(bare).update_ref(f"refs/heads/{branch}", self.pending.head, None)
        repo.issues = self.pending.number
        repo.pulls[self.pending.number] = Pull(
            self.pending.number, self.pending.title, "", "harness-gh", branch, NAME, self.pending.head
        )
        self.git = Git(self.clone)
        self.git.run("config", "modelsmith.forge", f"github:{server.web}/{NAME}")
        self.tokens = {login: server.token(login) for login in ("harness-gh", "maya-gh")}
        self._add_branch()

    def _add_branch(self) -> None:
        """Something to propose: a page that nobody governs."""
        main = self.git.rev("main")
        words = ["git", "-C", str(self.clone), "-c", "user.name=n", "-c", "user.email=n@invalid"]
        subprocess.run([*words, "checkout", "-q", "-B", BRANCH, str(main)], check=True)
        (self.clone / "notes.md").write_text("What we learned.\n")
        subprocess.run([*words, "add", "notes.md"], check=True)
        subprocess.run([*words, "commit", "-q", "-m", "Notes"], check=True)
        subprocess.run([*words, "checkout", "-q", "main"], check=True)

    def run(self, login: str, *words: str) -> dict[str, float]:
        """Seconds and requests of one command.

        Raises:
            RuntimeError: it failed; 4 is none, since the open promotion waits for nobody and an approval of it counts
                for nothing.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_"))}
        env = inherited | self.place.environment | {"GITHUB_TOKEN": self.tokens[login], "GIT_CONFIG_GLOBAL": os.devnull}
        before, begin = len(self.server.asked), time.perf_counter()
        process = subprocess.Popen(
            [*modelsmith_command(), *words, "--json"], cwd=self.clone, env=env, stdout=subprocess.PIPE
        )
        assert process.stdout
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 4):
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}: {answer.decode()}")
        requests = self.server.asked[before:]
        git = sum(path.startswith(f"/{NAME}.git") for _, path, _ in requests)
        return {
            "rest_requests": len(requests) - git,
            "git_requests": git,
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "wall_seconds": round(time.perf_counter() - begin, 2),
        }


def measure(place: Place) -> dict[str, dict[str, float]]:
    """Figures of one size, by command."""
    with tempfile.TemporaryDirectory() as name, SettingsServer(Path(name) / "github", None) as server:
        day = Day(place, server, Path(name))
        number = str(day.pending.number)
        day.run("harness-gh", "pr", "list")
        return {
            "status": day.run("harness-gh", "status"),
            "pr list": day.run("harness-gh", "pr", "list"),
            "pr open": day.run("maya-gh", "pr", "open", BRANCH, "--title", "Notes", "--key", str(place.approver_key)),
            "approve": day.run("maya-gh", "approve", number, "--key", str(place.approver_key)),
            "pr merge": day.run("harness-gh", "pr", "merge", number),
        }


def grow(sizes: Mapping[int, Mapping[str, Mapping[str, float]]], command: str) -> bool:
    """Whether a command makes more requests at one size than at another."""
    counts = {tuple(size[command][kind] for kind in ("rest_requests", "git_requests")) for size in sizes.values()}
    return len(counts) > 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="Promotions; multiples of five.")
    arguments = parser.parse_args()
    sizes: dict[int, dict[str, dict[str, float]]] = {}
    for size in arguments.sizes:
        place = Place(WORK / "governance" / str(size), size)
        if not place.pending.exists():
            make_repository(place)
        sizes[size] = measure(place)
    rows: list[tuple[Any, ...]] = [
        (size, command, counts["rest_requests"], counts["git_requests"], counts["cpu_seconds"], counts["wall_seconds"])
        for size, commands in sizes.items()
        for command, counts in commands.items()
    ]
    print(table(("promotions", "command", "REST", "git", "cpu s", "wall s"), rows))
    growing = [command for command in next(iter(sizes.values())) if grow(sizes, command)]
    goal = {"requests_that_grow": growing, "met": max(sizes) >= 1000 and not growing}
    print(json.dumps(goal))
    save(RESULTS / "requests_at_github.json", {"machine": machine("pygithub"), "sizes": sizes, "goal": goal})


if __name__ == "__main__":
    main()
