"""A queue of a thousand jobs: what it takes to ask for each, to list them, and what they hold while they wait.

One job is at work, all others wait for it; the process at work is `tests/fleet/stub_job.py`, which sleeps. Asked by a
tool as an agent does, and by the function beneath it; beside it bare SQLite, one committed row each. Listed by commands
of their own, start included, beside Python importing click and pydantic. Then a chain of short jobs that nobody looks
at: seconds from the end of one to the beginning of the next, which is a process's start.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from common import RESULTS, ROOT, Spent, alternate, machine, modelsmith_command, save, spend, summary, table, timed

from modelsmith.fleet import jobs as of_jobs
from modelsmith.fleet.jobs import Jobs
from modelsmith.mcp.calls import Session, call
from modelsmith.repository.workspace import Workspace

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "fleet"))
from happenings import make_plain_clone
from stub_job import RAN

CHAIN = 20
GOAL_QUEUED = 1000


def with_one_at_work(folder: Path) -> Workspace:
    """A clone with a job that sleeps."""
    workspace = Workspace.find(make_plain_clone(folder))
    Jobs.of(workspace).submit(workspace, "eval", {"seconds": 36_000}, "rtb-pricing")
    return workspace


def by_tool(workspace: Workspace, count: int) -> None:
    session = Session(workspace.root, "operator")
    for number in range(count):
        reply = call(session, "modelsmith_eval_run", {"cluster": "rtb-pricing", "tag": f"bench-{number}"})
        assert reply.body["result"]["status"] == "queued", reply.body


def by_function(workspace: Workspace, count: int) -> None:
    jobs = Jobs.of(workspace)
    for number in range(count):
        jobs.submit(workspace, "eval", {"cluster": "rtb-pricing", "tag": f"bench-{number}"}, "rtb-pricing")


def bare(path: Path, count: int) -> None:
    """The rows and nothing else."""
    for number in range(count):
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY, asked TEXT)")
        database.execute("INSERT INTO jobs (asked) VALUES (?)", (json.dumps({"tag": f"bench-{number}"}),))
        database.commit()
        database.close()


def at_work(private: Path) -> list[psutil.Process]:
    """Processes of this clone's jobs."""
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if str(private) in (process.info["cmdline"] or ())]


def peak(command: list[str], cwd: Path) -> float:
    """Most MiB that a command needed."""
    watch = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
    watch += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    process = psutil.Popen([sys.executable, "-c", watch, *command], cwd=cwd, stdout=-1)
    return round(float(process.communicate()[0]), 1)


def handed_over(folder: Path) -> list[float]:
    """Seconds between the end of a job and the beginning of the next, where nobody looks."""
    workspace = Workspace.find(make_plain_clone(folder))
    jobs = Jobs.of(workspace)
    for number in range(CHAIN):
        jobs.submit(workspace, "eval", {"number": number}, "rtb-pricing")
    log = workspace.private / RAN
    while not log.exists() or len(log.read_text().splitlines()) < CHAIN:
        time.sleep(0.2)
    documents = [json.loads(line) for line in log.read_text().splitlines()]
    assert [document["id"] for document in documents] == [job.submitted.id for job in reversed(jobs.newest())]
    return [after["began"] - before["ended"] for before, after in pairwise(documents)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=GOAL_QUEUED)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    about = machine("pydantic")
    of_jobs._RUNNER = "stub_job"
    os.environ["PYTHONPATH"] = str(ROOT / "tests" / "fleet")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODELSMITH_HOME"] = str(Path(folder) / "home")
        clones = [with_one_at_work(Path(folder) / name) for name in ("tool", "function")]
        queued = {
            "asked for by a tool": timed(lambda: by_tool(clones[0], arguments.jobs)),
            "asked for by the function": timed(lambda: by_function(clones[1], arguments.jobs)),
            "bare SQLite": timed(lambda: bare(Path(folder) / "bare.db", arguments.jobs)),
        }
        root, private = clones[0].root, clones[0].private
        assert Jobs.of(clones[0]).count_waiting() == arguments.jobs
        ours = modelsmith_command()
        commands: dict[str, Callable[[], Spent]] = {
            "jobs list": lambda: spend([*ours, "jobs", "list", "--json"], root),
            "jobs list --all": lambda: spend([*ours, "jobs", "list", "--all", "--json"], root),
            "import click, pydantic": lambda: spend([sys.executable, "-c", "import click, pydantic"], root),
        }
        listed = alternate(commands, arguments.repeats)
        memory = {name: peak([*ours, *name.split(), "--json"], root) for name in ("jobs list", "jobs list --all")}
        working = at_work(private)
        memory_waiting = {
            "processes": len(working),
            "mib": round(sum(process.memory_info().rss for process in working) / 2**20, 1),
            "kib_on_disk": round(sum(file.stat().st_size for file in private.glob("jobs.db*")) / 1024),
            "threads_of_asker": len(psutil.Process().threads()),
        }
        for clone in clones:
            for process in at_work(clone.private):
                process.kill()
        passed = handed_over(Path(folder) / "chain")
    report(about, arguments.jobs, queued, listed, memory, memory_waiting, passed)


def report(
    about: dict[str, Any],
    count: int,
    queued: dict[str, Spent],
    listed: dict[str, list[Spent]],
    memory: dict[str, float],
    memory_waiting: dict[str, Any],
    passed: list[float],
) -> None:
    """Print and save."""
    between = {"median": round(statistics.median(passed), 2), "most": round(max(passed), 2), "jobs": CHAIN}
    figures = {name: summary(runs) for name, runs in listed.items()}
    result = {
        "machine": about,
        "jobs": count,
        "to_queue": {
            name: {"seconds": round(spent.wall, 2), "cpu": round(spent.cpu, 2)} for name, spent in queued.items()
        },
        "to_list": figures,
        "list_peak_mib": memory,
        "while_they_wait": memory_waiting,
        "hand_over": between,
        "goal": {"queued": GOAL_QUEUED, "met": count >= GOAL_QUEUED and memory_waiting["processes"] == 1},
    }
    save(RESULTS / "jobs.json", result)
    rows: list[tuple[object, ...]] = [
        (name, round(spent.wall, 2), round(spent.cpu, 2), round(spent.wall / count * 1000, 1))
        for name, spent in queued.items()
    ]
    print(table((f"{count} jobs", "seconds", "cpu", "ms each"), rows))
    print()
    print(
        table(
            ("to list", "median", "least", "most", "cpu", "MiB peak"),
            [
                (name, figure["median"], figure["least"], figure["most"], figure["median_cpu"], memory.get(name, ""))
                for name, figure in figures.items()
            ],
        )
    )
    print()
    print(
        f"while they wait: {memory_waiting['processes']} process, {memory_waiting['mib']} MiB; "
        f"{memory_waiting['kib_on_disk']} KiB on disk"
    )
    print(f"from one's end to the next's beginning: median {between['median']} s, most {between['most']} s")


if __name__ == "__main__":
    main()
