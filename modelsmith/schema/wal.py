"""SQLite's write-ahead log, in files that several processes open at once."""

from __future__ import annotations

import sqlite3
import time
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
