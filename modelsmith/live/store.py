"""What was counted, in SQLite beside the clone's other records: units, reports and tallies; no prompt, answer or key.

SQLite in WAL mode and not DuckDB: a report is one small transaction that has to survive a kill, two doors of one clone
write at once, and it comes with Python; DuckDB lets one process write. Its strength, scanning millions of rows, is not
needed: each transaction brings the tallies up to date, so a window is read in a millisecond, whatever it holds.

A unit counts by its first decision: those after it, of the same key, are no independent evidence.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final, Literal, NamedTuple

from modelsmith.governance.drift import Rate
from modelsmith.live.ids import handle
from modelsmith.live.port import Answered, Arm, Decision
from modelsmith.live.reports import Report
from modelsmith.schema.live import Counts, Metric, StageCounts
from modelsmith.schema.wal import may_write, read_only, write_ahead

STORE_FILE: Final = "counts.sqlite3"
BUSY_SECONDS: Final = 10.0
_STEP: Final = 1000
"""Rows that are removed at once."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS units (
    record TEXT NOT NULL, unit TEXT NOT NULL, decision BLOB NOT NULL, PRIMARY KEY (record, unit)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measured (decision BLOB PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (
    decision BLOB NOT NULL, metric TEXT NOT NULL, happened INTEGER NOT NULL, record TEXT NOT NULL, key BLOB NOT NULL,
    PRIMARY KEY (decision, metric)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS reports_by_key ON reports (key);
CREATE TABLE IF NOT EXISTS tallies (
    record TEXT NOT NULL, share REAL NOT NULL, arm TEXT NOT NULL, metric TEXT NOT NULL, events INTEGER NOT NULL,
    known INTEGER NOT NULL, PRIMARY KEY (record, share, arm, metric)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spans (record TEXT PRIMARY KEY, began REAL NOT NULL, ended REAL NOT NULL) WITHOUT ROWID;
"""
UNITS = ""
"""Name under which units themselves are tallied."""

ReportOutcome = Literal["taken", "repeated", "contradicted", "key-reused"]
_Tally = tuple[str, float, Arm, str]
_Unit = tuple[str, str]
"""Record and unit."""
_Row = tuple[str | bytes, ...]
_ROWS: Final = 300
"""Rows of one statement: SQLite takes 999 values everywhere."""


class Note(NamedTuple):
    """A decision, or how one ended."""

    decision: Decision
    measured: Mapping[str, bool | None] | None
    """What the door measured of its answer, by guard; None for the decision itself."""


class Store:
    """Counts of one clone. Safe to call from several threads and processes.

    Raises sqlite3.Error from every method: a full disk, a damaged file, another process that holds it too long, or a
    change where this user may only read.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.Lock()
        if path.exists() and not may_write(path.parent):
            self._database = read_only(path, BUSY_SECONDS)
            return
        self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            write_ahead(self._database, BUSY_SECONDS)
            self._database.execute("PRAGMA synchronous=FULL")
            # A large batch would else open a file of its own, which a door at its limit of open files cannot.
            self._database.execute("PRAGMA temp_store=MEMORY")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def note(self, notes: Iterable[Note]) -> None:
        """Count decisions and answers, all of them or none."""
        with self._changing() as database:
            tallies: dict[_Tally, list[int]] = {}
            rows = [(decision, handle(decision), measured) for decision, measured in notes]
            firsts = _firsts(database, [(decision, decision_id) for decision, decision_id, _ in rows], tallies)
            ends: dict[bytes, tuple[Decision, Mapping[str, bool | None]]] = {}
            for decision, decision_id, measured in rows:
                if measured is not None and firsts[decision.record, decision.unit] == decision_id:
                    ends.setdefault(decision_id, (decision, measured))
            for decision_id in _in_measured(database, ends):
                del ends[decision_id]
            _insert(
                database, "measured", [(decision_id, decision.record) for decision_id, (decision, _) in ends.items()]
            )
            for decision, measured in ends.values():
                for metric, happened in measured.items():
                    if happened is not None:
                        _add(tallies, decision, metric, happened)
            _write(database, tallies)

    def report(self, reports: Sequence[Report]) -> list[ReportOutcome]:
        """Take reports of outcomes."""
        with self._changing() as database:
            tallies: dict[_Tally, list[int]] = {}
            results = [_report(database, report, tallies) for report in reports]
            _write(database, tallies)
            return results

    def counts(self, record: str, metrics: Sequence[str]) -> Counts | None:
        """Counts of a deployment; None before the first decision."""
        with self._lock:
            span = self._database.execute("SELECT began, ended FROM spans WHERE record = ?", (record,)).fetchone()
            rows = self._database.execute(
                "SELECT share, arm, metric, events, known FROM tallies WHERE record = ? ORDER BY share", (record,)
            ).fetchall()
        if span is None:
            return None
        cells_by_share: dict[float, dict[tuple[Arm, str], tuple[int, int]]] = {}
        for share, arm, metric, events, denominator in rows:
            cells_by_share.setdefault(share, {})[arm, metric] = (events, denominator)
        return Counts(
            began=datetime.fromtimestamp(span[0], UTC),
            ended=datetime.fromtimestamp(span[1], UTC),
            stages=tuple(_stage(share, cells, metrics) for share, cells in cells_by_share.items()),
        )

    def rates(self, record: str) -> dict[str, Rate]:
        """By metric, what was counted under a name of both arms and all shares together."""
        with self._lock:
            rows = self._database.execute(
                "SELECT metric, sum(events), sum(known) FROM tallies WHERE record = ? GROUP BY metric", (record,)
            ).fetchall()
        return {metric: Rate(events, denominator) for metric, events, denominator in rows}

    def outcomes(self, decision: Decision) -> dict[str, bool]:
        """Outcomes that were reported of one decision, by metric."""
        with self._lock:
            rows = self._database.execute(
                "SELECT metric, happened FROM reports WHERE decision = ?", (handle(decision),)
            ).fetchall()
        return {metric: bool(happened) for metric, happened in rows}

    def forget(self, before: datetime, keep: Collection[str], stop: Callable[[], bool] = lambda: False) -> int:
        """Remove what was last added to before a moment, but of the records to keep; how many deployments that were.

        In steps, so that whoever counts meanwhile waits for one of them; ``stop`` is asked between two, and who comes
        next goes on. What is looked for by its record in a table that goes by decisions is found by another connection,
        which nobody waits for: an index that finds it a second sooner in two million rows makes the file half as large
        again.
        """
        with self._lock:
            rows = self._database.execute("SELECT record FROM spans WHERE ended < ?", (before.timestamp(),)).fetchall()
        records = [record for (record,) in rows if record not in keep]
        if not records:
            return 0
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as reading:
            for record in records:
                for table in ("measured", "reports"):
                    if not self._remove(reading, table, record, stop):
                        return 0
        some = f"SELECT unit FROM units WHERE record = ? LIMIT {_STEP}"  # noqa: S608 - our own number
        for record in records:
            removed = _STEP
            while removed == _STEP and not stop():
                with self._changing() as database:
                    delete_units = f"DELETE FROM units WHERE record = ? AND unit IN ({some})"  # noqa: S608 - our own names
                    removed = database.execute(delete_units, (record, record)).rowcount
            if removed == _STEP:
                return 0
            with self._changing() as database:
                for table in ("tallies", "spans"):
                    database.execute(f"DELETE FROM {table} WHERE record = ?", (record,))  # noqa: S608 - our own names
        return len(records)

    def _remove(self, reading: sqlite3.Connection, table: str, record: str, stop: Callable[[], bool]) -> bool:
        """Remove a record's rows from a table that goes by decisions; whether that came to its end."""
        last = b""
        query = f"SELECT decision FROM {table} WHERE decision > ? AND record = ? ORDER BY decision LIMIT {_STEP}"  # noqa: S608
        while not stop():
            keys = reading.execute(query, (last, record)).fetchall()
            with self._changing() as database:
                database.executemany(f"DELETE FROM {table} WHERE decision = ?", keys)  # noqa: S608 - our own names
            if len(keys) < _STEP:
                return True
            last = keys[-1][0]
        return False

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


DIFFERS: Final = "differs"
"""By which answers in the shadow that say something else are counted; nothing is reported of them, so it is free."""


def measured_of(answered: Answered, budget: float | None) -> dict[str, bool | None]:
    """Measurements of an answer for each guard; None where it has none.

    A client that hung up says nothing of errors, and of slowness only when it had waited longer than the budget. A
    request that was refused as wrong says nothing of either: no answer was to be had, or one was owed. Nor does one
    for which the door could ask nobody.
    """
    if answered.not_asked:
        return {"errors": None, "slow": None, "format": None, DIFFERS: None}
    failed = answered.failed_over or answered.status >= 500 or answered.status == 429
    refused = not answered.hung_up and not failed and answered.status >= 400
    late = budget is not None and answered.total_ms > budget
    return {
        "errors": None if answered.hung_up or refused else failed,
        "slow": None if budget is None or refused or (answered.hung_up and not late) else late or failed,
        "format": None if answered.format_ok is None else not answered.format_ok,
        DIFFERS: answered.differs,
    }


def _firsts(
    database: sqlite3.Connection, decided: Iterable[tuple[Decision, bytes]], tallies: dict[_Tally, list[int]]
) -> dict[_Unit, bytes]:
    """The decision by which each of these units counts. A unit that was never seen begins to, as after a kill."""
    arrivals: dict[_Unit, tuple[Decision, bytes]] = {}
    for decision, decision_id in decided:
        arrivals.setdefault((decision.record, decision.unit), (decision, decision_id))
    first_ids = {
        (record, unit): bytes.fromhex(decision_id) for record, unit, decision_id in _in_units(database, arrivals)
    }
    new = {unit: arrival for unit, arrival in arrivals.items() if unit not in first_ids}
    _insert(database, "units", [(*unit, decision_id) for unit, (_, decision_id) in new.items()])
    for decision, _ in new.values():
        _add(tallies, decision, UNITS, True)
    for record in {decision.record for decision, _ in new.values()}:
        times = [decision.at.timestamp() for decision, _ in new.values() if decision.record == record]
        database.execute(
            "INSERT INTO spans VALUES (?, ?, ?) ON CONFLICT (record) DO UPDATE SET "
            "began = min(began, excluded.began), ended = max(ended, excluded.ended)",
            (record, min(times), max(times)),
        )
    return first_ids | {unit: decision_id for unit, (_, decision_id) in new.items()}


def _in_units(database: sqlite3.Connection, units: Collection[_Unit]) -> Iterator[list[str]]:
    """Record, unit and decision (in hex) of each that is there."""
    for some in _portions(units):
        (listed,) = database.execute(
            f"WITH asked (record, unit) AS (VALUES {_marks(some)}) "  # noqa: S608 - only marks
            "SELECT json_group_array(json_array(record, unit, hex(decision))) "
            "FROM asked CROSS JOIN units USING (record, unit)",
            [*chain(*some)],
        ).fetchone()
        yield from json.loads(listed)


def _in_measured(database: sqlite3.Connection, decisions: Collection[bytes]) -> Iterator[bytes]:
    """Handles of those decisions whose answer was counted."""
    for some in _portions([(decision,) for decision in decisions]):
        (listed,) = database.execute(
            "SELECT json_group_array(hex(decision)) FROM measured "  # noqa: S608 - only marks
            f"WHERE decision IN (VALUES {_marks(some)})",
            [*chain(*some)],
        ).fetchone()
        yield from map(bytes.fromhex, json.loads(listed))


def _insert(database: sqlite3.Connection, table: Literal["units", "measured"], rows: Sequence[_Row]) -> None:
    for some in _portions(rows):
        database.execute(f"INSERT INTO {table} VALUES {_marks(some)}", [*chain(*some)])  # noqa: S608 - our own names


def _portions(rows: Collection[_Row]) -> Iterator[Sequence[_Row]]:
    """Rows in portions of as many as one statement may name.

    At each statement, and each row that is read, a thread lets go of the interpreter, and has to get it back from the
    one that answers requests: so there are few of both.
    """
    row_list = [*rows]
    for begin in range(0, len(row_list), _ROWS):
        yield row_list[begin : begin + _ROWS]


def _marks(rows: Sequence[_Row]) -> str:
    return ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))


def _report(database: sqlite3.Connection, report: Report, tallies: dict[_Tally, list[int]]) -> ReportOutcome:
    decision, metric, happened, key = report
    decision_id = handle(decision)
    row = database.execute(
        "SELECT happened FROM reports WHERE decision = ? AND metric = ?", (decision_id, metric)
    ).fetchone()
    if row is not None:
        return "repeated" if bool(row[0]) == happened else "contradicted"
    try:
        database.execute(
            "INSERT INTO reports VALUES (?, ?, ?, ?, ?)", (decision_id, metric, happened, decision.record, key)
        )
    except sqlite3.IntegrityError:
        return "key-reused"
    if _firsts(database, [(decision, decision_id)], tallies)[decision.record, decision.unit] == decision_id:
        _add(tallies, decision, metric, happened)
    return "taken"


def _add(tallies: dict[_Tally, list[int]], decision: Decision, metric: str, happened: bool) -> None:
    cell = tallies.setdefault((decision.record, decision.share, decision.arm, metric), [0, 0])
    cell[0] += happened
    cell[1] += 1


def _write(database: sqlite3.Connection, tallies: Mapping[_Tally, Sequence[int]]) -> None:
    database.executemany(
        "INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (record, share, arm, metric) DO UPDATE SET "
        "events = events + excluded.events, known = known + excluded.known",
        [(*key, *cell) for key, cell in tallies.items()],
    )


def _stage(share: float, cells: Mapping[tuple[Arm, str], tuple[int, int]], metrics: Sequence[str]) -> StageCounts:
    def cell(arm: Arm, metric: str) -> tuple[int, int]:
        return cells.get((arm, metric), (0, 0))

    return StageCounts(
        share=share,
        specialist=cell("specialist", UNITS)[1],
        incumbent=cell("incumbent", UNITS)[1],
        metrics=tuple(
            Metric(
                metric=name,
                specialist=cell("specialist", name)[0],
                incumbent=cell("incumbent", name)[0],
                specialist_known=cell("specialist", name)[1],
                incumbent_known=cell("incumbent", name)[1],
            )
            for name in metrics
        ),
    )
