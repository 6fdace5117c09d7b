"""The ledger's tables and the statements on them; transactions and locks are the caller's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import JsonValue

from modelsmith.schema.canonical import digest
from modelsmith.schema.evalset import Question
from modelsmith.schema.run import RunResult

EventName = Literal[
    "eval.complete",
    "eval.regression",
    "training.complete",
    "promotion.pending_approval",
    "promotion.advanced",
    "rollback.triggered",
]
"""Names on the wire."""

BUSY_SECONDS = 30.0
"""How long one process waits for another's write."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    cluster TEXT NOT NULL, tag TEXT NOT NULL, run_id TEXT NOT NULL, model TEXT NOT NULL, question TEXT NOT NULL,
    weights TEXT NOT NULL, engine TEXT NOT NULL, composite REAL NOT NULL, verdict TEXT NOT NULL,
    complete INTEGER NOT NULL, finished REAL NOT NULL, result TEXT NOT NULL, PRIMARY KEY (cluster, tag, run_id));
CREATE INDEX IF NOT EXISTS runs_by_question ON runs (question, weights, engine, finished);
CREATE TABLE IF NOT EXISTS attempts (
    question TEXT NOT NULL, weights TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (question, weights, tag));
CREATE TABLE IF NOT EXISTS consultations (
    held_out TEXT NOT NULL, question TEXT NOT NULL, weights TEXT NOT NULL, PRIMARY KEY (held_out, question, weights));
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key TEXT NOT NULL UNIQUE, payload TEXT NOT NULL,
    at TEXT NOT NULL);
"""
_OLDEST_FIRST = "ORDER BY finished, run_id, cluster, tag"


class Attempts(NamedTuple):
    """How often a question was put to the same weights."""

    begun: int
    complete: int


def connect(path: Path) -> sqlite3.Connection:
    """A connection that commits each statement unless a transaction is begun; the tables exist."""
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def remove(path: Path, keep: bool = False) -> None:
    """Remove a database's files; with `keep` only the companions of the main file, which is about to be replaced."""
    for suffix in ("-wal", "-shm") if keep else ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def carry_over(old: Path, database: sqlite3.Connection) -> None:
    """Copy what a ledger holds that can still be read; a damaged or missing one gives nothing."""
    if not old.exists():
        return
    try:
        with closing(sqlite3.connect(old, timeout=BUSY_SECONDS)) as source:
            runs = source.execute("SELECT * FROM runs").fetchall()
            attempts = source.execute("SELECT * FROM attempts").fetchall()
            events = source.execute("SELECT * FROM events ORDER BY sequence").fetchall()
            source.executescript(_SCHEMA)
            looks = source.execute("SELECT * FROM consultations").fetchall()
    except sqlite3.DatabaseError:
        return
    database.executemany("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", runs)
    database.executemany("INSERT OR IGNORE INTO attempts VALUES (?, ?, ?)", attempts)
    database.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", events)
    database.executemany("INSERT OR IGNORE INTO consultations VALUES (?, ?, ?)", looks)


def record_run(database: sqlite3.Connection, result: RunResult) -> bool:
    """Insert a run with its events, or bring a known one up to date; whether it is new."""
    key = (result.cluster, result.tag, result.run_id)
    text = result.model_dump_json()
    changed = database.execute(
        "UPDATE runs SET composite = ?, verdict = ?, result = ? WHERE cluster = ? AND tag = ? AND run_id = ?",
        (result.headline.composite.value, result.headline.verdict, text, *key),
    )
    if changed.rowcount:
        return False
    database.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *key,
            result.model,
            digest(result.question),
            result.weights,
            digest(result.engine),
            result.headline.composite.value,
            result.headline.verdict,
            is_complete(result),
            finished(result)[0],
            text,
        ),
    )
    _append_eval_events(database, result)
    return True


def _append_eval_events(database: sqlite3.Connection, result: RunResult) -> None:
    lost: list[JsonValue] = [one.id for one in result.headline.regressions]
    at = datetime.fromtimestamp(finished(result)[0], UTC)
    key = f"{result.cluster}/{result.tag}/{result.run_id}"
    common: dict[str, JsonValue] = {"run_id": result.run_id, "cluster": result.cluster, "tag": result.tag}
    append_event(
        database,
        "eval.complete",
        f"eval.complete/{key}",
        common
        | {
            "composite": result.headline.composite.value,
            "verdict": result.headline.verdict,
            "regressions": lost,
        },
        at,
    )
    if lost:
        append_event(
            database,
            "eval.regression",
            f"eval.regression/{key}",
            common | {"failing_scenarios": lost, "prior_pass": result.incumbent},
            at,
        )


def append_event(
    database: sqlite3.Connection, name: EventName, key: str, payload: Mapping[str, JsonValue], at: datetime
) -> bool:
    """Insert an event unless its key is known; whether it is new."""
    added = database.execute(
        "INSERT OR IGNORE INTO events (name, key, payload, at) VALUES (?, ?, ?, ?)",
        (name, key, json.dumps(dict(payload), sort_keys=True), at.isoformat()),
    )
    return added.rowcount == 1


def begin_attempt(database: sqlite3.Connection, question: Question, weights: str, tag: str) -> None:
    """Insert an attempt unless it is known."""
    database.execute("INSERT OR IGNORE INTO attempts VALUES (?, ?, ?)", (digest(question), weights, tag))


def consult(database: sqlite3.Connection, held_out: str, question: Question, weights: str) -> None:
    """Insert a look at a held-out set unless it is known."""
    database.execute("INSERT OR IGNORE INTO consultations VALUES (?, ?, ?)", (held_out, digest(question), weights))


def count_consultations(database: sqlite3.Connection, held_out: str) -> int:
    """Looks at a held-out set."""
    found = database.execute("SELECT count(*) FROM consultations WHERE held_out = ?", (held_out,)).fetchone()
    return int(found[0])


def count_attempts(database: sqlite3.Connection, question: Question, weights: str) -> Attempts:
    """Attempts begun and complete; a run whose beginning was never noted still counts as begun."""
    key = (digest(question), weights)
    begun = database.execute("SELECT count(*) FROM attempts WHERE question = ? AND weights = ?", key).fetchone()[0]
    complete = database.execute(
        "SELECT count(*) FROM runs WHERE question = ? AND weights = ? AND complete", key
    ).fetchone()[0]
    return Attempts(max(begun, complete), complete)


def is_complete(result: RunResult) -> bool:
    """Whether every weighted section and held-out were asked, and not in quick mode."""
    weights = result.rule.composite
    weighted = {"core": weights.core, "robustness": weights.robustness, "micro": weights.micro}
    needed = {"held_out", *(section for section, weight in weighted.items() if weight > 0)}
    return not result.quick and result.only is None and needed <= set(result.sections)


def runs(database: sqlite3.Connection, tag: str | None, cluster: str | None) -> list[str]:
    """Result texts, oldest first."""
    rows = database.execute(
        f"SELECT result FROM runs WHERE (?1 IS NULL OR tag = ?1) AND (?2 IS NULL OR cluster = ?2) {_OLDEST_FIRST}",  # noqa: S608
        (tag, cluster),
    )
    return [row[0] for row in rows]


def finished(result: RunResult) -> tuple[float, str]:
    """When a run ended, in seconds since 1970, and its id to break ties."""
    return result.started_at.timestamp() + result.duration_seconds, result.run_id
