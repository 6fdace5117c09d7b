"""The seven checks of a promotion pull request, as CI runs them: a fresh clone, and a server of GitHub's shape.

The repositories are those of ``governance.py``, at 10, 100 and 1,000 promotions. Each run is a new process in a new
clone of main, so nothing is remembered from a run before: it fetches every pull request's log, reads main, judges the
open promotion and shows seven check runs. Requests are counted by the server, REST and git apart; its own processor
time is not the checks'. Seconds are of the clock (``median``) and of the processor (``median_cpu``, user and system,
children included). The report is made once and apart: the clock then holds the pauses that GitHub asks for between two
requests that change something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, WORK, Spent, machine, modelsmith_command, save, summary, table
from governance_history import Place, make_repository

from modelsmith.repository.git import Git
from modelsmith.schema.pull import PullRequest

sys.path.insert(0, str(ROOT / "tests"))
from github_server import GitHubServer, Pull

SIZES = (10, 100, 1000)
GOAL_SECONDS = 10.0
NAME = "acme/promotions"


def environment(server: GitHubServer, folder: Path, number: int) -> dict[str, str]:
    """What GitHub gives a workflow's job."""
    event = folder / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": number}}))
    base_environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_", "MODELSMITH_"))
    }
    return base_environment | {
        "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": server.web, "GITHUB_REPOSITORY": NAME,
        "GITHUB_EVENT_NAME": "pull_request_target", "GITHUB_EVENT_PATH": str(event),
        "GITHUB_TOKEN": server.workflow_token(), "MODELSMITH_HOME": str(folder / "home"),
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
    }  # fmt: skip


def once(place: Place, report: bool) -> dict[str, float]:
    """One run in a clone of its own."""
    pending = PullRequest.model_validate_json(place.pending.read_text())
    with tempfile.TemporaryDirectory() as name, GitHubServer(Path(name) / "github", None) as server:
        folder = Path(name)
        bare = folder / "forge.git"
        subprocess.run(["cp", "-a", place.forge, bare], check=True)
        repo = server.add(NAME, bare)
        branch = f"modelsmith/{pending.preparer}/{pending.branch}"
        Git(bare).update_ref(f"refs/heads/{branch}", pending.head, None)
        repo.issues = pending.number
        repo.pulls[pending.number] = Pull(pending.number, pending.title, "", "harness-gh", branch, NAME, pending.head)
        subprocess.run(["git", "clone", "-q", bare, folder / "work"], check=True)
        command = [*modelsmith_command(), "check", "--event", "--json", *(["--report"] if report else [])]
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder / "work", env=environment(server, folder, pending.number), stdout=subprocess.PIPE
        )
        assert process.stdout
        answer = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 4):
            raise RuntimeError(f"expected a promotion whose checks hold: {answer}")
        rest = [path for _, path, _ in server.asked if not path.startswith(f"/{NAME}.git")]
        return {
            "wall": time.perf_counter() - begin,
            "cpu": usage.ru_utime + usage.ru_stime,
            "rest_requests": len(rest),
            "git_requests": len(server.asked) - len(rest),
            "peak_mib": usage.ru_maxrss / 1024,
        }


def measure(place: Place, repeats: int) -> dict[str, Any]:
    """Figures of one size."""
    runs = [once(place, report=False) for _ in range(repeats)]
    counted = once(place, report=True)
    return {
        "seconds": summary([Spent(run["wall"], run["cpu"]) for run in runs]),
        "peak_mib": round(max(run["peak_mib"] for run in runs), 1),
        "requests": {name: int(runs[0][name]) for name in ("rest_requests", "git_requests")},
        "requests_with_report": {name: int(counted[name]) for name in ("rest_requests", "git_requests")},
        "wall_seconds_with_report": round(counted["wall"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="Promotions; multiples of five.")
    arguments = parser.parse_args()
    sizes: dict[int, dict[str, Any]] = {}
    for size in arguments.sizes:
        place = Place(WORK / "governance" / str(size), size)
        if not place.pending.exists():
            make_repository(place)
        sizes[size] = measure(place, arguments.repeats)
    rows = [
        (size, run["seconds"]["median_cpu"], run["seconds"]["median"], run["requests"]["rest_requests"],
         run["requests"]["git_requests"], run["requests_with_report"]["rest_requests"], run["peak_mib"])
        for size, run in sizes.items()
    ]  # fmt: skip
    print(table(("promotions", "cpu s", "wall s", "REST", "git", "REST, reported", "MiB"), rows))
    requests = {json.dumps(run["requests"]) for run in sizes.values()}
    last = sizes[max(sizes)]["seconds"]["median_cpu"]
    goal = {
        "promotions": 1000, "cpu_seconds_below": GOAL_SECONDS, "requests_grow": len(requests) > 1,
        "met": max(sizes) >= 1000 and last < GOAL_SECONDS and len(requests) == 1,
    }  # fmt: skip
    facts = machine("pydantic", "PyYAML", "cryptography", "pygithub")
    save(RESULTS / "checks.json", {"machine": facts, "repeats": arguments.repeats, "sizes": sizes, "goal": goal})


if __name__ == "__main__":
    main()
