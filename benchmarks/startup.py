"""What a command takes that does next to nothing: the start of Python and our imports, beside those of others."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from common import RESULTS, Spent, alternate, machine, modelsmith_command, ratio, save, spend, summary, table

GOAL_SECONDS = 0.3
BARE = "import click, pydantic"
OURS = {
    "modelsmith --help": ("--help",),
    "modelsmith hook pre-receive": ("hook", "pre-receive"),
    "modelsmith check --help": ("check", "--help"),
    "modelsmith pr list --help": ("pr", "list", "--help"),
    "modelsmith status --help": ("status", "--help"),
}
"""The help of a command comes after all that the command imports; the hook judges a push of nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    commands = {name: [*modelsmith_command(), *words] for name, words in OURS.items()}
    commands |= {BARE: [sys.executable, "-c", BARE], "python, nothing imported": [sys.executable, "-c", "pass"]}
    commands |= {f"{name} --version": [name, "--version"] for name in ("git", "dvc") if shutil.which(name)}
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    facts = machine("click", "pydantic")
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder, "forge.git")
        subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
        env |= {"MODELSMITH_HOME": f"{folder}/home"}

        def once(command: list[str]) -> Spent:
            return spend(command, bare, env, subprocess.DEVNULL)

        subjects = {name: partial(once, command) for name, command in commands.items()}
        for call in subjects.values():
            call()
        runs = alternate(subjects, repeats)
    figures = {name: summary(own_runs) for name, own_runs in runs.items()}
    least = figures["modelsmith --help"]["least"]
    result = {
        "machine": facts,
        "repeats": repeats,
        "seconds": figures,
        "ratio": {name: ratio(runs[name], runs[BARE]) for name in OURS},
        "goal": {"least_seconds_at_most": GOAL_SECONDS, "met": least <= GOAL_SECONDS},
    }
    save(RESULTS / "startup.json", result)
    rows = [
        (name, f["median"], f["least"], f["most"], f["median_cpu"], ratio(runs[name], runs[BARE])["cpu"])
        for name, f in figures.items()
    ]
    print(table(("seconds", "median", "least", "most", "cpu", "cpu by bare imports"), rows))


if __name__ == "__main__":
    main()
