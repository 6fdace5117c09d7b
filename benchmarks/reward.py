"""The rubric as a reward: completions scored a second, on one core.

The rubric is the kit's own, of declared points; what is scored are distinct completions of four kinds, a quarter each:
right, with the wrong cause, with a misspelt field, and no JSON at all. The baseline does what no reward can do without:
``json.loads`` of the same texts. Seconds are of the processor, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from contextlib import suppress

from common import RESULTS, ROOT, alternate, machine, save, summary, table, timed

from modelsmith.evaluation.reward import Sampled, rewards
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree

GOAL = 20_000
"""Completions a second."""
SET = "adtech/rtb-root-cause"


def completions(references: Sequence[dict[str, object]], count: int) -> list[Sampled]:
    """Distinct completions, four kinds in turn."""
    found = []
    for number in range(count):
        expected = references[number % len(references)]
        right = {"cause": expected["cause"], "action": expected["action"]}
        text = (
            json.dumps(right) + " " * (number // 4),
            json.dumps(right | {"cause": f"cause {number}"}),
            json.dumps({"cause": expected["cause"], "actoin": f"step {number}"}),
            f"In note {number} the partner answers late, so it is a timeout, I think.",
        )[number % 4]
        found.append(Sampled(text, False, expected))  # type: ignore[arg-type]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--completions", type=int, default=20_000)
    given = parser.parse_args()
    governed = load_eval_set(WorkTree(ROOT), SET)
    sampled = completions([dict(scenario.reference) for scenario in governed.core], given.completions)

    def parse() -> None:
        for one in sampled:
            with suppress(ValueError):
                json.loads(one.text)

    runs = alternate(
        {
            "reward": lambda: timed(lambda: rewards(governed.rubric, sampled)),
            "json.loads": lambda: timed(parse),
        },
        given.repeats,
    )
    speed = {
        name: round(given.completions / statistics.median(run.cpu for run in measured))
        for name, measured in runs.items()
    }
    best = {name: round(given.completions / min(run.cpu for run in measured)) for name, measured in runs.items()}
    rows = [(name, speed[name], best[name]) for name in runs]
    print(table(("completions a second", "median", "best"), rows))
    goal = {"completions_per_second": GOAL, "met": speed["reward"] >= GOAL}
    save(
        RESULTS / "reward.json",
        {
            "machine": machine("jsonschema", "pydantic"), "repeats": given.repeats, "completions": given.completions,
            "seconds": {name: summary(measured) for name, measured in runs.items()},
            "per_second": speed, "per_second_best": best, "goal": goal,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
