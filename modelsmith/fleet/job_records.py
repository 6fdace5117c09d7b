"""What is kept of each job: a row of one SQLite file, so that a thousand that wait cost a thousand rows.

A row says what was asked for and how far its process said that it came; whether that process is alive, only its lock
says (`fleet.jobs`). Every change is one transaction, so a kill leaves what was before or what comes after.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, JsonValue, StringConstraints

from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import digest
from modelsmith.schema.wal import write_ahead

JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
Standing = Literal["waiting", "begun", "over"]
"""``waiting`` for a process; a process has ``begun``; what came of it is noted: ``over``."""

CANCELLED = 130
"""Exit code of a job that was asked to end."""
_BUSY_SECONDS = 60.0
"""How long one process waits for another's change."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, request TEXT NOT NULL, cluster TEXT NOT NULL,
    stands TEXT NOT NULL, asked TEXT NOT NULL, pid INTEGER, ended TEXT, ended_at TEXT);
CREATE INDEX IF NOT EXISTS jobs_by_request ON jobs (request, number);
CREATE INDEX IF NOT EXISTS jobs_by_turn ON jobs (stands, cluster, number);
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (cluster, ended_at) WHERE pid IS NOT NULL;
"""
_ROW = "SELECT asked, stands, pid, ended FROM jobs"


class JobRequest(Frozen):
    """What was asked for, and as whom: whoever starts the job's process may be somebody else."""

    id: JobId
    operation: str
    arguments: dict[str, JsonValue]
    cluster: str
    at: AwareDatetime
    role: str | None
    """Role of whoever asked; None for a person."""
    root: str
    """The work tree, from the clone's private folder on: a copy of a clone starts its jobs in the copy."""
    home: str
    """Keys and store of whoever asked."""
    calls: tuple[str, ...] = ()
    """Other operations that it would call, as they were when whoever asked was seen to have a right to each."""
    secret: str = ""
    """What tickets to this job are made with (`fleet.tickets`); no view shows it. Empty in rows of older versions."""
    turn: int = 0
    """How often it was let go on after an end: a ticket is for one turn."""

    @property
    def request(self) -> str:
        """Digest by which the same request is known."""
        return digest([self.operation, self.arguments])


class Ended(Frozen):
    """How a job ended: its exit code, and a result or an error."""

    exit: int
    """Exit code of the command line for the same."""
    result: dict[str, JsonValue] | None
    error: dict[str, JsonValue] | None
    """``code``, ``message``, ``mend``."""
    at: AwareDatetime


class Record(NamedTuple):
    """One job, as the clone's records have it."""

    submitted: JobRequest
    stands: Standing
    pid: int | None
    """Process that it had last; None where it never had one."""
    ended: Ended | None


class Records:
    """The rows of one clone. Each call is a transaction of its own, but for those in `alone`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    @contextmanager
    def alone(self) -> Iterator[Records]:
        """The rows, which nobody else changes for the block; what was changed is there when it ends, or not at all."""
        with self._opened() as database, database:
            database.execute("BEGIN IMMEDIATE")
            records = Records(self._path)
            records._database = database
            yield records

    def add(self, request: JobRequest) -> None:
        """Put it at the end of its queue."""
        self._change(
            "INSERT INTO jobs (id, request, cluster, stands, asked) VALUES (?, ?, ?, 'waiting', ?)",
            (request.id, request.request, request.cluster, request.model_dump_json()),
        )

    def wait_again(self, request: JobRequest) -> None:
        """Put it back where it was in its queue, as asked for now."""
        self._change(
            "UPDATE jobs SET stands = 'waiting', asked = ?, pid = NULL, ended = NULL, ended_at = NULL WHERE id = ?",
            (request.model_dump_json(), request.id),
        )

    def begin(self, id: str, pid: int) -> JobRequest | None:
        """Note its process; None where there is nothing to begin: no such job, or it is over."""
        self._change("UPDATE jobs SET stands = 'begun', pid = ? WHERE id = ? AND stands != 'over'", (pid, id))
        record = self.find(id)
        return record.submitted if record and record.stands == "begun" else None

    def end(self, id: str, exit: int, result: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
        """Note what came of it; what was noted first stays."""
        now = datetime.now(UTC)
        ended = Ended(exit=exit, result=dict(result) if result else None, error=dict(error) if error else None, at=now)
        self._change(
            "UPDATE jobs SET stands = 'over', ended = ?, ended_at = ? WHERE id = ? AND stands != 'over'",
            (ended.model_dump_json(), now.isoformat(), id),
        )

    def find(self, id: str) -> Record | None:
        """The job of that id."""
        return next(iter(self._rows(f"{_ROW} WHERE id = ?", (id,))), None)

    def last_of(self, request: str) -> Record | None:
        """The newest job of a request."""
        return next(iter(self._rows(f"{_ROW} WHERE request = ? ORDER BY number DESC LIMIT 1", (request,))), None)

    def newest(self, most: int) -> list[Record]:
        """Newest first; all of them where ``most`` is -1."""
        return self._rows(f"{_ROW} ORDER BY number DESC LIMIT ?", (most,))

    def waiting(self, most: int) -> list[Record]:
        """Those that wait, in the order of their turn."""
        return self._rows(f"{_ROW} WHERE stands = 'waiting' ORDER BY number LIMIT ?", (most,))

    def begun(self) -> list[Record]:
        """Those whose process has begun and has not said what came of it, newest first."""
        return self._rows(f"{_ROW} WHERE stands = 'begun' ORDER BY number DESC", ())

    def first_in_line(self) -> list[str]:
        """The job of each cluster that has waited longest, by id; the one asked for first comes first."""
        rows = self._all("SELECT id, min(number) FROM jobs WHERE stands = 'waiting' GROUP BY cluster ORDER BY 2", ())
        return [first for first, _ in rows]

    def last_over(self, cluster: str) -> str | None:
        """The job of a cluster that had a process and ended last, by id."""
        had_one = "cluster = ? AND stands = 'over' AND pid IS NOT NULL"
        rows = self._all(f"SELECT id FROM jobs WHERE {had_one} ORDER BY ended_at DESC LIMIT 1", (cluster,))  # noqa: S608
        return rows[0][0] if rows else None

    def count(self, stands: Standing | None = None) -> int:
        """How many there are, or how many stand so."""
        rows = self._all("SELECT count(*) FROM jobs WHERE ?1 IS NULL OR stands = ?1", (stands,))
        return int(rows[0][0]) if rows else 0

    def new_id(self) -> str:
        """An id that no job has."""
        while self.find(identifier := secrets.token_hex(4)):
            pass
        return identifier

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[Record]:
        return [
            Record(
                JobRequest.model_validate_json(request),
                stands,
                pid,
                Ended.model_validate_json(ended) if ended else None,
            )
            for request, stands, pid, ended in self._all(statement, values)
        ]

    def _all(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        if self._database is None and not self._path.exists():
            return []
        with self._opened() as database:
            return database.execute(statement, values).fetchall()

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        with self._opened() as database:
            database.execute(statement, values)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if self._database is not None:
            yield self._database
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
            write_ahead(database, _BUSY_SECONDS)
            database.execute("PRAGMA synchronous=FULL")
            database.executescript(_SCHEMA)
            yield database
