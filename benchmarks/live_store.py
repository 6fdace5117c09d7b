"""What the front door's store of counts costs, and how long a window takes to read, by decisions that it holds.

Decisions and their answers are noted in batches, as the door's thread does; then a window is read, and a thousand
decisions more are added. A window is read from tallies that every transaction keeps up to date.

Beyond a million, rows are put in by SQL, as many and as they would be but without the making of decisions; then some
are noted by the door's way, which is what is timed. The file lies where ``TMPDIR`` says.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from common import RESULTS, machine, save, table

from modelsmith.live.ids import Ids
from modelsmith.live.port import Answered, Arm, Decision
from modelsmith.live.store import UNITS, Note, Store, measured_of
from modelsmith.schema.canonical import digest

GOAL_SECONDS = 1.0
BY_THE_DOOR = 1_000_000
"""Decisions that are noted by the door's way; those beyond by SQL."""
AT_ONCE = 500_000
"""Rows of one transaction of SQL."""
RECORD = digest("a deployment")
BATCH = 5_000
ANSWERED = measured_of(Answered(200, 50.0, 200.0, 100, 20, format_ok=True), 800.0)


def decisions(ids: Ids, first: int, number: int) -> list[Note]:
    """So many, each of a key of its own, half of them the specialist's."""
    at = datetime(2026, 5, 1, tzinfo=UTC)
    return [Note(_decided(ids, n, at + timedelta(milliseconds=n)), ANSWERED) for n in range(first, first + number)]


def _decided(ids: Ids, n: int, at: datetime) -> Decision:
    arm: Arm = "specialist" if n % 2 else "incumbent"
    unit = ids.unit("c", "iter-002-0000000a", f"key-{n}")
    return ids.decision("c", "iter-002-0000000a", "base", RECORD, arm, unit, 0.5, "canary", at)


def fill(file: Path, number: int) -> None:
    """Put in so many decisions with their answers, each of a unit of its own, half of them the specialist's."""
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA synchronous=OFF")
    database.execute("PRAGMA cache_size=-200000")
    while number:
        some = min(AT_ONCE, number)
        number -= some
        handles = [os.urandom(8) for _ in range(some)]
        units = sorted(zip((os.urandom(8).hex() for _ in range(some)), handles, strict=True))
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO units VALUES (?, ?, ?)", ((RECORD, *unit) for unit in units))
        database.executemany("INSERT INTO measured VALUES (?, ?)", ((handle, RECORD) for handle in sorted(handles)))
        for metric in (UNITS, *(name for name, happened in ANSWERED.items() if happened is not None)):
            for arm, more in (("specialist", some // 2), ("incumbent", some - some // 2)):
                database.execute(
                    "UPDATE tallies SET events = events + ?, known = known + ? WHERE arm = ? AND metric = ?",
                    (more if metric == UNITS else 0, more, arm, metric),
                )
        database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def measure(sizes: list[int], file: Path) -> list[dict[str, float]]:
    """Fill one store up to each size and look."""
    ids, stored, figures = Ids(bytes(32)), 0, []
    store = Store(file)
    for size in sizes:
        if size > BY_THE_DOOR:
            fill(file, size - BATCH - stored)
            stored = size - BATCH
        begin, count = time.perf_counter(), stored
        while stored < size:
            store.note(decisions(ids, stored, min(BATCH, size - stored)))
            stored += min(BATCH, size - stored)
        filled = (time.perf_counter() - begin) / max(1, stored - count)
        reads = []
        for _ in range(20):
            begin = time.perf_counter()
            counts = store.counts(RECORD, ["won", "errors", "slow", "format"])
            reads.append(time.perf_counter() - begin)
        assert counts is not None
        assert sum(stage.specialist + stage.incumbent for stage in counts.stages) == stored
        more = decisions(ids, stored, 1000)
        begin = time.perf_counter()
        store.note(more)
        added = time.perf_counter() - begin
        stored += 1000
        figures.append(
            {
                "decisions": size,
                "note_us": filled * 1e6,
                "read_ms": statistics.median(reads) * 1000,
                "thousand_ms": added * 1000,
                "megabytes": file.stat().st_size / 1e6,
            }
        )
    store.close()
    return figures


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(sorted(arguments.decisions), Path(folder, "counts.sqlite3"))
    goal = {
        "read_seconds_at_most": GOAL_SECONDS,
        "met": all(figure["read_ms"] <= 1000 * GOAL_SECONDS for figure in figures),
    }
    save(RESULTS / "live_store.json", {"machine": machine(), "sizes": figures, "goal": goal})
    heads = ("decisions", "us each to note", "ms to read", "ms for 1,000 more", "MB")
    rows = [
        (
            f"{figure['decisions']:,}",
            *(round(figure[name], 2) for name in ("note_us", "read_ms", "thousand_ms", "megabytes")),
        )
        for figure in figures
    ]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
