"""How often a quiet quarter raises an alarm, how soon a loss is seen: simulated weeks through the product's judgement.

    python benchmarks/drift.py [--runs 10000] [--seed 1]

Each run is a validation, whose counts are the baseline, and the thirteen weeks after it; a week is judged when each of
its days ends, as the door does. Beside it what people would write by hand on the same data: "below what is allowed".
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import NamedTuple

import numpy as np
from common import RESULTS, machine, save, table

from modelsmith.governance.drift import WEEKS, Rate, drifted, envelope
from modelsmith.governance.window import watched
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.watch import Rule

DAY, RATE, ALLOWED, LEAST = 1_500, 0.2, 0.04, 100
PARTS = 24
"""Of a day."""
WINDOW = 2_000
"""Decisions of the specialist that its validation has counted."""
FROM = 4
"""Weeks before a planted loss begins."""
TERMS = Rollback(metric="wins", max_drop=ALLOWED, window_minutes=60, manual_hours=48, rule=Rule(least_decisions=LEAST))


class Case(NamedTuple):
    """What is simulated, how often."""

    name: str
    runs: int
    loss: float = 0.0
    """Of the rate, from the fifth week on; of a quiet quarter all along."""
    hours: float = 0.0
    """By how much the hour moves the rate; each day begins at the worst."""
    day: int = DAY
    """Decisions of a day."""
    chosen: bool = False
    """Only who looked no worse than it is was validated."""


class Alarms(NamedTuple):
    """Days from the loss (or the validation) on, after which each of the two first raises an alarm."""

    ours: int | None
    plain: int | None


def quarter(draw: np.random.Generator, case: Case, quiet: bool) -> Alarms:
    """One validation and its quarter."""
    before = _validation(draw, case.chosen)
    weeks = range(WEEKS) if quiet else range(FROM, WEEKS)
    ours = plain = None
    (metric,) = watched(TERMS)
    bound = envelope(metric, before, TERMS.rule.error_probability / 2 if TERMS.rule else 0.0)
    for week in weeks:
        events = np.cumsum(draw.binomial(case.day // PARTS, _rates(case), (7, PARTS)).sum(axis=1))
        for day, won in enumerate(map(int, events), start=1):
            after, days_known = (week - weeks[0]) * 7 + day, day * (case.day // PARTS) * PARTS
            if plain is None and won / days_known < (1 - ALLOWED) * before.events / before.known:
                plain = after
            # Above the envelope there is no evidence for what lies below it.
            if (
                ours is None
                and won / days_known < bound
                and drifted(TERMS, {"wins": before}, {"wins": Rate(won, days_known)})
            ):
                ours = after
        if ours is not None and plain is not None:
            break
    return Alarms(ours, plain)


def _validation(draw: np.random.Generator, selected: bool) -> Rate:
    while True:
        successes = int(draw.binomial(WINDOW, RATE))
        if not selected or successes >= WINDOW * RATE:
            return Rate(successes, WINDOW)


def _rates(case: Case) -> np.ndarray:
    """The mean rate of each part of a day."""
    return RATE * (1 - case.loss) * (1 - case.hours * np.cos((np.arange(PARTS) + 0.5) * 2 * np.pi / PARTS))


def measured(draw: np.random.Generator, case: Case, quiet: bool) -> dict[str, str | float | int | None]:
    """One line of the table."""
    quarters = [quarter(draw, case, quiet) for _ in range(case.runs)]
    line: dict[str, str | float | int | None] = {"quarter": case.name, "runs": case.runs}
    for side in Alarms._fields:
        hits = [after for quarter_run in quarters if (after := getattr(quarter_run, side)) is not None]
        line[side] = round(len(hits) / case.runs, 4)
        line[f"{side} in a week"] = round(sum(after <= 7 for after in hits) / case.runs, 4)
        line[f"{side} days"] = round(median(hits)) if hits else None
    return line


def main() -> None:
    """Run it, print a table and write ``results/drift.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw, some, few = np.random.default_rng(arguments.seed), max(1, arguments.runs // 5), max(1, arguments.runs // 20)
    quiet = (
        Case("quiet", arguments.runs),
        Case("quiet, and was validated by luck", some, chosen=True),
        Case("at the edge of what is allowed", some, loss=ALLOWED),
        Case("quiet, hours move by 10 %", some, hours=0.1),
        Case("quiet, hours move by 50 %", some, hours=0.5),
        Case("quiet, by 50 %, ten times as many", some, hours=0.5, day=10 * DAY),
    )
    lost = tuple(Case(f"{loss:.0%} lost", few, loss=loss) for loss in (0.1, 0.2, 0.3, 0.5))
    rows = [measured(draw, case, quiet=True) for case in quiet] + [measured(draw, case, quiet=False) for case in lost]
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    terms = {"rate": RATE, "max_drop": ALLOWED, "decisions_a_day": DAY, "baseline_decisions": WINDOW}
    goal = {
        "quiet_quarters_with_an_alarm_at_most": 0.05,
        "met": all(float(row["ours"] or 0) <= 0.05 for row in rows[:3]),
    }
    save(
        RESULTS / "drift.json",
        {"machine": machine("numpy"), "seed": arguments.seed, **terms, "rows": rows, "goal": goal},
    )


if __name__ == "__main__":
    main()
