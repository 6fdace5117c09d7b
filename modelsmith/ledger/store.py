"""The ledger's tables and the statements on them; transactions and locks are the caller's."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from modelsmith.schema.canonical import digest
from modelsmith.schema.evalset import Question
from modelsmith.schema.events import Happened, Recorded, of_run, reader
from modelsmith.schema.run import RunResult
from modelsmith.schema.wal import may_write, read_only, write_ahead

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
CREATE TABLE IF NOT EXISTS happened (
    sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, chain TEXT NOT NULL, at TEXT NOT NULL, event TEXT NOT NULL);
"""
VERSION = 2
"""Of the tables. A ledger of another version is made anew: the first kept events as it liked to."""
_CURSOR = re.compile(r"([1-9][0-9]{0,17})-([0-9a-f]{16})")
_OLDEST_FIRST = "ORDER BY finished, run_id, cluster, tag"


class Attempts(NamedTuple):
    """How often a question was put to the same weights."""

    begun: int
    complete: int


def connect(path: Path) -> sqlite3.Connection:
    """A connection that commits each statement unless a transaction is begun; the tables exist."""
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        write_ahead(database, BUSY_SECONDS)
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def is_current(path: Path) -> bool:
    """Whether the ledger is of this version, and whole."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as database:
        return bool(database.execute("PRAGMA user_version").fetchone()[0] == VERSION)


def to_read(path: Path) -> sqlite3.Connection | None:
    """A connection to read by; None where the ledger is not there, or is of another version."""
    if not path.exists():
        return None
    if may_write(path.parent):
        database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    else:
        database = read_only(path, BUSY_SECONDS)
    try:
        if database.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            return database
    except sqlite3.Error:
        database.close()
        raise
    database.close()
    return None


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
            source.executescript(_SCHEMA)
            events = source.execute("SELECT * FROM happened ORDER BY sequence").fetchall()
            looks = source.execute("SELECT * FROM consultations").fetchall()
    except sqlite3.DatabaseError:
        return
    database.executemany("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", runs)
    database.executemany("INSERT OR IGNORE INTO attempts VALUES (?, ?, ?)", attempts)
    database.executemany("INSERT INTO happened VALUES (?, ?, ?, ?, ?)", events)
    database.executemany("INSERT OR IGNORE INTO consultations VALUES (?, ?, ?)", looks)
    for text in runs_in(database, None, None):
        _append_of(database, RunResult.model_validate_json(text))


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
            result.is_complete,
            finished(result)[0],
            text,
        ),
    )
    _append_of(database, result)
    return True


def _append_of(database: sqlite3.Connection, result: RunResult) -> None:
    ended = datetime.fromtimestamp(finished(result)[0], UTC)
    for event in of_run(result):
        append(database, event, ended)


def append(database: sqlite3.Connection, event: Happened, at: datetime) -> bool:
    """Add an event at the end unless it is known; whether it is new.

    Its chain is a digest of its id and of the chain before it, and so of everything up to it.
    """
    identity = event.identity
    if database.execute("SELECT 1 FROM happened WHERE id = ?", (identity,)).fetchone():
        return False
    last, chain = _end(database)
    row = (last + 1, identity, digest([chain, identity]), at.isoformat(), event.model_dump_json())
    database.execute("INSERT INTO happened VALUES (?, ?, ?, ?, ?)", row)
    return True


def _end(database: sqlite3.Connection) -> tuple[int, str]:
    """Number and chain of the last event."""
    row = database.execute("SELECT sequence, chain FROM happened ORDER BY sequence DESC LIMIT 1").fetchone()
    return row or (0, "")


def end(database: sqlite3.Connection) -> str | None:
    """Cursor of the last event; None where nothing has happened."""
    sequence, chain = _end(database)
    return _cursor(sequence, chain) if sequence else None


def events(database: sqlite3.Connection, since: str | None, limit: int) -> list[Recorded] | None:
    """At most ``limit`` (-1: all) events after a cursor, oldest first; None where the cursor is not of this ledger."""
    after = 0
    if since is not None:
        cursor = _CURSOR.fullmatch(since)
        after = int(cursor[1]) if cursor else 0
        row = database.execute("SELECT chain FROM happened WHERE sequence = ?", (after,)).fetchone()
        if row is None or since != _cursor(after, row[0]):
            return None
    rows = database.execute("SELECT * FROM happened WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit))
    return [_recorded(*row) for row in rows]


@lru_cache(maxsize=1024)
def _recorded(sequence: int, identity: str, chain: str, at: str, text: str) -> Recorded:
    """A row as it is told. Many who follow read the same rows, so it is made once for all of them."""
    return Recorded(
        cursor=_cursor(sequence, chain),
        id=identity,
        at=datetime.fromisoformat(at),
        event=reader().validate_json(text),
    )


def _cursor(sequence: int, chain: str) -> str:
    return f"{sequence}-{chain.removeprefix('sha256:')[:16]}"


def begin_attempt(database: sqlite3.Connection, question: Question, weights: str, tag: str) -> None:
    """Insert an attempt unless it is known."""
    database.execute("INSERT OR IGNORE INTO attempts VALUES (?, ?, ?)", (digest(question), weights, tag))


def consult(database: sqlite3.Connection, held_out: str, question: Question, weights: str) -> None:
    """Insert a look at a held-out set unless it is known."""
    database.execute("INSERT OR IGNORE INTO consultations VALUES (?, ?, ?)", (held_out, digest(question), weights))


def count_consultations(database: sqlite3.Connection, held_out: str) -> int:
    """How often a held-out set was looked at."""
    row = database.execute("SELECT count(*) FROM consultations WHERE held_out = ?", (held_out,)).fetchone()
    return int(row[0])


def count_attempts(database: sqlite3.Connection, question: Question, weights: str) -> Attempts:
    """Attempts begun and complete; a run whose beginning was never noted still counts as begun."""
    key = (digest(question), weights)
    started = database.execute("SELECT count(*) FROM attempts WHERE question = ? AND weights = ?", key).fetchone()[0]
    complete = database.execute(
        "SELECT count(*) FROM runs WHERE question = ? AND weights = ? AND complete", key
    ).fetchone()[0]
    return Attempts(max(started, complete), complete)


def runs_in(database: sqlite3.Connection, tag: str | None, cluster: str | None) -> list[str]:
    """Result texts, oldest first."""
    rows = database.execute(
        f"SELECT result FROM runs WHERE (?1 IS NULL OR tag = ?1) AND (?2 IS NULL OR cluster = ?2) {_OLDEST_FIRST}",  # noqa: S608
        (tag, cluster),
    )
    return [row[0] for row in rows]


def finished(result: RunResult) -> tuple[float, str]:
    """When a run ended, in seconds since 1970, and its id to break ties."""
    return result.started_at.timestamp() + result.duration_seconds, result.run_id
