"""SQLite's write-ahead log, in files that several processes open at once."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

_PAUSE: Final = 0.01
"""Seconds between two tries."""


def write_ahead(database: sqlite3.Connection, seconds: float) -> None:
    """Have the file written by a write-ahead log (WAL), so that who reads waits for nobody who writes.

    A file that is not yet so is changed once, and for good, while nobody else uses it. SQLite waits for whoever does by
    the connection's own timeout everywhere but here: of processes that open a new file at the same moment, some would
    hear "database is locked" at once.

    Args:
        database: A connection, with no transaction begun.
        seconds: How long to wait for others.

    Raises:
        sqlite3.Error: others hold the file all that time, or it cannot be used.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
        time.sleep(_PAUSE)


def may_write(folder: Path) -> bool:
    """Whether this user may write in a folder, or make it where it is not there."""
    existing = next(ancestor for ancestor in (folder, *folder.parents) if ancestor.exists())
    return os.access(existing, os.W_OK)


def read_only(path: Path, seconds: float) -> sqlite3.Connection:
    """A connection to a file in a folder in which this user may not write.

    Even to read a file that has a write-ahead log, SQLite makes files beside it, unless it is told that nobody changes
    the file. That is so while no log lies there.

    Args:
        path: The file; it exists.
        seconds: How long to wait for others.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    log = path.with_name(f"{path.name}-wal")
    still = not log.exists() or log.stat().st_size == 0
    address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if still else ''}"
    return sqlite3.connect(address, uri=True, timeout=seconds, isolation_level=None, check_same_thread=False)
