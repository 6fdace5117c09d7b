"""The ledger: what happened, in one SQLite file under the git directory, shared by every process of a workspace.

It is an index, not the truth: run folders hold the results, and a missing ledger is made anew from them. Everything
that is recorded has a key, so a command that is run again counts nothing twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from modelsmith.ledger import store
from modelsmith.ledger.store import BUSY_SECONDS, Attempts
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.evalset import Question
from modelsmith.schema.events import Happened, Recorded
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.run import RunRequest, RunResult
from modelsmith.schema.wal import may_write

_Record = TypeVar("_Record", bound=Frozen)


class Rebuilt(NamedTuple):
    """Result of a rebuild: how many runs were found, and which folders could not be read."""

    runs: int
    skipped: tuple[str, ...]
    """Run folders, as ``<cluster>/<tag>``, whose files cannot be read."""


class Page(NamedTuple):
    """Events after a cursor."""

    events: list[Recorded]
    end: str | None
    """Cursor of the last event of all when they were read; None where nothing has happened."""


class Ledger:
    """The ledger of one workspace: runs, attempts and events, in one SQLite file.

    Concurrency: threads and processes may share it. Every call opens the file, is one transaction, and closes it; one
    that writes waits up to `BUSY_SECONDS` for the others, then raises ``busy``. What a call has returned is committed.

    Freshness: every call reads the file anew. Two calls are two transactions: in between, others may have written. A
    ledger that is missing or of another version is made anew from the run folders at the next call.
    """

    def __init__(self, path: Path) -> None:
        """Address the ledger, ``ledger.db`` in the clone's private folder; it is created, or rebuilt, at first use."""
        self.path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"), timeout=BUSY_SECONDS)

    def record_run(self, result: RunResult) -> bool:
        """Record a result with its ``eval.complete`` and ``eval.regression`` events; False if the run is known.

        A known run (cluster, tag, run id) keeps its place in time; its result is brought up to date.

        Raises:
            InfrastructureFailure: ``busy``, ``ledger-damaged`` or ``ledger-unwritable``.
        """
        with self._writing() as database:
            return store.record_run(database, result)

    def runs(self, tag: str | None = None, cluster: str | None = None) -> list[RunResult]:
        """Recorded results, oldest first.

        Raises:
            InfrastructureFailure: ``busy`` or ``ledger-damaged``.
        """
        with self._reading() as database:
            return [RunResult.model_validate_json(text) for text in store.runs_in(database, tag, cluster)]

    def result(self, tag: str, cluster: str | None = None) -> RunResult:
        """The latest result under a tag.

        Raises:
            InvalidInput: ``unknown-tag``; ``ambiguous-tag`` when several clusters use it and none is named.
            InfrastructureFailure: ``busy`` or ``ledger-damaged``.
        """
        runs = self.runs(tag, cluster)
        if not runs:
            tags = sorted({run.tag for run in self.runs(cluster=cluster)})
            rest = f", and {len(tags) - 20} others" if len(tags) > 20 else ""
            raise InvalidInput(
                "unknown-tag",
                f"No run is recorded under tag '{tag}'.",
                f"Known tags: {', '.join(tags[-20:])}{rest}." if tags else "Run `modelsmith eval` first.",
                tag=tag,
                known=tags[-20:],
            )
        if len(clusters := sorted({run.cluster for run in runs})) > 1:
            raise InvalidInput(
                "ambiguous-tag", f"Several clusters have a run '{tag}'.", "Name the cluster as well.", clusters=clusters
            )
        return runs[-1]

    def begin_attempt(self, question: Question, weights: str, tag: str) -> int:
        """Note that a question is put to these weights; returns how often it was begun.

        Resuming a tag is not a new attempt. A quick or partial run is one: it has seen the question.

        Raises:
            InfrastructureFailure: ``busy``, ``ledger-damaged`` or ``ledger-unwritable``.
        """
        with self._writing() as database:
            store.begin_attempt(database, question, weights, tag)
            return store.count_attempts(database, question, weights).begun

    def attempts(self, question: Question, weights: str) -> Attempts:
        """How often the question was begun for these weights, and how many of these attempts are complete.

        Raises:
            InfrastructureFailure: ``busy`` or ``ledger-damaged``.
        """
        with self._reading() as database:
            return store.count_attempts(database, question, weights)

    def consult(self, held_out: str, question: Question, weights: str) -> int:
        """Note that some weights are put to a held-out set; returns how often it has been consulted.

        ``held_out`` is the digest of its scenarios. The same weights at the same question look once: an answer that is
        known tells nothing new.

        Raises:
            InfrastructureFailure: ``busy``, ``ledger-damaged`` or ``ledger-unwritable``.
        """
        with self._writing() as database:
            store.consult(database, held_out, question, weights)
            return store.count_consultations(database, held_out)

    def consultations(self, held_out: str) -> int:
        """How often a held-out set has been consulted, whatever was asked of it and whoever answered.

        Raises:
            InfrastructureFailure: ``busy`` or ``ledger-damaged``.
        """
        with self._reading() as database:
            return store.count_consultations(database, held_out)

    def append(self, *events: Happened) -> int:
        """Note what has happened; returns how many of the events are new. A known one is not noted again.

        Raises:
            InfrastructureFailure: ``busy``, ``ledger-damaged`` or ``ledger-unwritable``.
        """
        with self._writing() as database:
            now = datetime.now(UTC)
            return sum(store.append(database, event, now) for event in events)

    def end(self) -> str | None:
        """Cursor of the last event; None where nothing has happened.

        Raises:
            InfrastructureFailure: ``busy`` or ``ledger-damaged``.
        """
        with self._reading() as database:
            return store.end(database)

    def events(self, since: str | None = None, limit: int = -1) -> list[Recorded]:
        """At most ``limit`` (-1: all) events after a cursor, oldest first; from the first when none is given.

        Raises:
            InvalidInput: ``unknown-cursor`` when this ledger does not tell the story that the cursor ends.
            InfrastructureFailure: ``busy`` or ``ledger-damaged``.
        """
        return self.page(since, limit).events

    def page(self, since: str | None, limit: int) -> Page:
        """The events that `events` gives, with the end of the ledger at that moment.

        Raises:
            InvalidInput, InfrastructureFailure: as `events`.
        """
        with self._reading() as database:
            database.execute("BEGIN")
            happened, end = store.events(database, since, limit), store.end(database)
        if happened is None:
            raise InvalidInput(
                "unknown-cursor",
                f"The ledger does not know the cursor '{since}': it was made anew, or put back.",
                "Read all events again; one that you have heard before has the same id.",
                cursor=since,
            )
        return Page(happened, end)

    def rebuild(self, private: Path) -> Rebuilt:
        """Make the ledger anew from the run folders beside it, keeping what the old one still tells.

        Runs whose folder is gone, attempts, and events of other commands live only in the ledger: they are carried over
        while it can be read, events with their numbers.

        Raises:
            InfrastructureFailure: ``busy`` or ``ledger-unwritable``.
        """
        with self._locked(), self._translated():
            return self._build(private)

    def _build(self, private: Path) -> Rebuilt:
        fresh = self.path.with_name(self.path.name + ".new")
        store.remove(fresh)
        with closing(store.connect(fresh)) as database, database:
            database.execute("BEGIN")
            store.carry_over(self.path, database)
            rebuilt = self._fill(database, private)
            database.execute(f"PRAGMA user_version = {store.VERSION}")
        store.remove(self.path, keep=True)
        fresh.replace(self.path)
        return rebuilt

    def _fill(self, database: sqlite3.Connection, private: Path) -> Rebuilt:
        """Record what the run folders hold."""
        runs, skipped, results = 0, [], []
        for folder in sorted(private.glob("*/runs/*")):
            request = _read(folder / "request.json", RunRequest)
            result = _read(folder / "result.json", RunResult)
            if isinstance(request, RunRequest):
                store.begin_attempt(database, request.question, request.weights, folder.name)
                if request.held_out is not None:
                    store.consult(database, request.held_out, request.question, request.weights)
            if isinstance(result, RunResult):
                results.append(result)
            if isinstance(request, ValidationError) or isinstance(result, ValidationError):
                skipped.append(f"{folder.parent.parent.name}/{folder.name}")
        for result in sorted(results, key=store.finished):
            runs += store.record_run(database, result)
        return Rebuilt(runs, tuple(skipped))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), closing(self._to_read()) as database:
            yield database

    def _to_read(self) -> sqlite3.Connection:
        """A connection to read by. A missing ledger is made anew: in memory where this user may not write."""
        while (database := store.to_read(self.path)) is None:
            if not may_write(self.path.parent):
                return self._in_memory()
            self._require()
        return database

    def _in_memory(self) -> sqlite3.Connection:
        database = store.connect(Path(":memory:"))
        self._fill(database, self.path.parent)
        return database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._require()
        with self._locked(), self._translated(), closing(store.connect(self.path)) as database, database:
            database.execute("BEGIN IMMEDIATE")
            yield database

    def _require(self) -> None:
        with self._translated():
            if self._is_there():
                return
            with self._locked():
                if not self._is_there():
                    self._build(self.path.parent)

    def _is_there(self) -> bool:
        return self.path.exists() and store.is_current(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise _busy() from None
        except OSError as error:
            raise _unwritable(error.strerror) from error
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _busy() from None
            raise _unwritable(str(error)) from error
        except (sqlite3.DatabaseError, ValidationError) as error:
            raise InfrastructureFailure(
                "ledger-damaged",
                f"The ledger cannot be read ({type(error).__name__}).",
                f"Remove {self.path}; the next command rebuilds it from the run folders.",
            ) from error
        except OSError as error:
            raise _unwritable(error.strerror) from error


def _busy() -> InfrastructureFailure:
    return InfrastructureFailure(
        "busy", "Another process is writing the ledger.", "Run the same command again in a moment.", lock="ledger"
    )


def _unwritable(cause: str | None) -> InfrastructureFailure:
    return InfrastructureFailure(
        "ledger-unwritable",
        f"The ledger cannot be used: {cause}.",
        "Make room or mend the permissions of .git/modelsmith, then run the same command again.",
        reason=cause,
    )


def _read(path: Path, kind: type[_Record]) -> _Record | ValidationError | None:
    try:
        return kind.model_validate_json(read_plain(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        return error


def ledger_of(workspace: Workspace) -> Ledger:
    """The ledger of a clone."""
    return Ledger(workspace.private / "ledger.db")
