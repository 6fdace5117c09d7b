"""What took long to make and need not be made again: bytes under keys, in a SQLite file that processes share.

Nothing that is kept here is ever the truth, so nothing fails: an entry that does not carry the digest of itself under
its own key is not there, a damaged file is begun anew, and what cannot be written is made again next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from modelsmith.schema.wal import write_ahead

_BUSY_SECONDS: Final = 30.0
"""How long one process waits for another's write."""
_AT_ONCE: Final = 500
"""Keys that are looked up in one statement: less than SQLite's least limit on parameters."""


class KeptBytes:
    """One such file. No call of it fails: at worst nothing is found, or nothing is kept."""

    def __init__(self, path: Path, kind: str) -> None:
        """Address the file, which is made at the first write. ``kind``: what an entry is, a word; it enters digests."""
        self.path = path
        self._table = f"{kind}s"
        self._sealed = f"modelsmith {kind}\0".encode()

    def find(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Values under these keys; entries that are not whole are passed over."""
        values: dict[bytes, bytes] = {}
        keys_asked = [*keys]

        def read(database: sqlite3.Connection) -> None:
            for start in range(0, len(keys_asked), _AT_ONCE):
                some = keys_asked[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, value, seal FROM {self._table} WHERE key IN ({marks})"  # noqa: S608
                values.update(
                    (key, value)
                    for key, value, seal in database.execute(query, some)
                    if isinstance(key, bytes) and isinstance(value, bytes) and seal == self._seal(key, value)
                )

        if self.path.exists():
            self._use(read)
        return values

    def keep(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep entries, all in one transaction; one under a key that is known takes its place."""
        rows = [(key, value, self._seal(key, value)) for key, value in entries.items()]

        def write(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?)", rows)  # noqa: S608
            database.execute("COMMIT")

        if rows:
            self._use(write)

    def _use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        columns = "key BLOB PRIMARY KEY, value BLOB NOT NULL, seal BLOB NOT NULL"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
                write_ahead(database, _BUSY_SECONDS)
                database.execute("PRAGMA synchronous=NORMAL")
                database.execute(f"CREATE TABLE IF NOT EXISTS {self._table} ({columns})")
                work(database)
        except (OSError, sqlite3.OperationalError):
            return
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _seal(self, key: bytes, value: bytes) -> bytes:
        return hashlib.sha256(self._sealed + key + value).digest()
