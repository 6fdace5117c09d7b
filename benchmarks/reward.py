"""The rubric as a reward: completions scored a second, on one core.

The rubrics are the kits' own, of declared points. What is scored are distinct completions of four kinds, a quarter
each: right, with a wrong first field, with a misspelt last field, and no JSON at all. The baseline does what no reward
can do without: ``json.loads`` of the same texts. Seconds are of the processor, so that other work counts little.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from common import RESULTS, ROOT, Spent, alternate, machine, save, summary, table, timed

from modelsmith.evaluation.reward import Sampled, rewards
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree

GOAL = 20_000
"""Completions a second."""
SETS = {"adtech/rtb-root-cause": ("cause", "action"), "fintech/fraud-typology": ("typology", "hold", "steps")}
"""Eval sets, and the fields of their answers."""


def completions(references: Sequence[dict[str, object]], fields: Sequence[str], count: int) -> list[Sampled]:
    """Distinct completions, four kinds in turn."""
    samples = []
    for number in range(count):
        expected = references[number % len(references)]
        right = {name: expected[name] for name in fields}
        text = (
            json.dumps(right) + " " * (number // 4),
            json.dumps(right | {fields[0]: f"cause {number}"}),
            json.dumps({name: right[name] for name in fields[:-1]} | {"actoin": f"step {number}"}),
            f"In note {number} the partner answers late, so it is a timeout, I think.",
        )[number % 4]
        samples.append(Sampled(text, False, expected))  # type: ignore[arg-type]
    return samples


def parse(sampled: Sequence[Sampled]) -> None:
    for sample in sampled:
        with suppress(ValueError):
            json.loads(sample.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--completions", type=int, default=20_000)
    arguments = parser.parse_args()
    measure: dict[str, Callable[[], Spent]] = {}
    for name, fields in SETS.items():
        governed = load_eval_set(WorkTree(ROOT), name)
        sampled = completions([dict(scenario.reference) for scenario in governed.core], fields, arguments.completions)
        measure[f"reward {name}"] = partial(timed, partial(rewards, governed.rubric, sampled))
        measure[f"json.loads {name}"] = partial(timed, partial(parse, sampled))
    runs = alternate(measure, arguments.repeats)
    speed = {
        name: round(arguments.completions / statistics.median(run.cpu for run in measured))
        for name, measured in runs.items()
    }
    best = {name: round(arguments.completions / min(run.cpu for run in measured)) for name, measured in runs.items()}
    rows = [(name, speed[name], best[name]) for name in runs]
    print(table(("completions a second", "median", "best"), rows))
    goal = {"completions_per_second": GOAL, "met": all(speed[f"reward {name}"] >= GOAL for name in SETS)}
    save(
        RESULTS / "reward.json",
        {
            "machine": machine("jsonschema", "pydantic"), "repeats": arguments.repeats,
            "completions": arguments.completions,
            "seconds": {name: summary(measured) for name, measured in runs.items()},
            "per_second": speed, "per_second_best": best, "goal": goal,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
