"""How long ``modelsmith --help`` takes, beside importing the two libraries that it cannot do without."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from common import RESULTS, ROOT, alternate, machine, modelsmith_command, ratio, save, spend, summary, table

GOAL_SECONDS = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    commands = {
        "modelsmith --help": [*modelsmith_command(), "--help"],
        "import click, pydantic": [sys.executable, "-c", "import click, pydantic"],
        "python, nothing imported": [sys.executable, "-c", "pass"],
    }
    facts = machine("click", "pydantic")
    for command in commands.values():
        spend(command, ROOT)
    runs = alternate({name: partial(spend, command, ROOT) for name, command in commands.items()}, repeats)
    ours, bare = runs["modelsmith --help"], runs["import click, pydantic"]
    figures = {name: summary(found) for name, found in runs.items()}
    result = {
        "machine": facts,
        "repeats": repeats,
        "seconds": figures,
        "ratio": ratio(ours, bare),
        "goal": {"least_seconds_at_most": GOAL_SECONDS, "met": figures["modelsmith --help"]["least"] <= GOAL_SECONDS},
    }
    save(RESULTS / "startup.json", result)
    rows = [(name, f["median"], f["least"], f["most"], f["median_cpu"]) for name, f in figures.items()]
    print(table(("seconds", "median", "least", "most", "cpu"), rows))
    print(
        f"\nratio to bare imports: {result['ratio']['wall']} on the clock, {result['ratio']['cpu']} of processor time"
    )


if __name__ == "__main__":
    main()
