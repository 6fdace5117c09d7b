"""How often a window lies, and how soon it sees a loss: simulated traffic through the product's own judgement.

    python benchmarks/window.py [--runs 10000] [--seed 1]

Each run is one window: decisions arrive with a win rate that the hour moves, and the window is judged after every 400
of them. Beside it what people would write by hand: "drop beyond max_drop on at least 30 decisions", on the same data.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from statistics import median

import numpy as np
from common import RESULTS, machine, save, table

from modelsmith.governance.window import tripped
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts, Metric, StageCounts
from modelsmith.schema.watch import Rule

DECISIONS, EVERY, RATE, ALLOWED = 20_000, 400, 0.2, 0.04
AT = datetime(2026, 1, 1, tzinfo=UTC)


def window(draw: np.random.Generator, share: float, loss: float) -> tuple[int | None, int | None]:
    """After how many decisions the rule trips, and after how many the plain threshold does."""
    mine = draw.random(DECISIONS) < share
    hour = RATE * (1 + 0.5 * np.sin(np.arange(DECISIONS) / 3_000))
    won = draw.random(DECISIONS) < hour * np.where(mine, 1 - loss, 1)
    looks = np.arange(EVERY, DECISIONS + 1, EVERY) - 1
    a, b, n, m = (np.cumsum(arm)[looks] for arm in (mine & won, ~mine & won, mine, ~mine))
    ours = next((int(at) + 1 for at, *k in zip(looks, a, b, n, m, strict=True) if _trips(share, *map(int, k))), None)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = (np.minimum(n, m) >= 30) & (a / n < (1 - ALLOWED) * b / m)
    return ours, int(looks[int(np.argmax(plain))]) + 1 if plain.any() else None


def _trips(share: float, a: int, b: int, n: int, m: int) -> bool:
    wins = Metric(metric="wins", specialist=a, incumbent=b, specialist_known=n, incumbent_known=m)
    stage = StageCounts(share=share, specialist=n, incumbent=m, metrics=(wins,))
    return bool(tripped(TERMS, Counts(began=AT, ended=AT, stages=(stage,))))


TERMS = Rollback(metric="wins", max_drop=ALLOWED, window_minutes=60, manual_hours=48, rule=Rule(least_decisions=30))


def main() -> None:
    """Run it, print a table and write ``results/window.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw, few = np.random.default_rng(arguments.seed), max(1, arguments.runs // 50)
    rows: list[dict[str, float | int | None]] = []
    for share, loss, runs in (
        *((0.1, 0.0, arguments.runs // 5), (0.2, 0.0, arguments.runs), (0.5, 0.0, arguments.runs // 5)),
        *((0.2, loss, few) for loss in (0.1, 0.2, 0.3, 0.5)),
    ):
        windows = [window(draw, share, loss) for _ in range(runs)]
        row: dict[str, float | int | None] = {"share": share, "loss": loss, "runs": runs}
        for name, side in (("rule", 0), ("threshold", 1)):
            hits = [after for result in windows if (after := result[side])]
            row[name], row[f"{name} after"] = round(len(hits) / runs, 4), round(median(hits)) if hits else None
        rows.append(row)
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    save(RESULTS / "window.json", {"machine": machine("numpy"), "seed": arguments.seed, "windows": rows})


if __name__ == "__main__":
    main()
