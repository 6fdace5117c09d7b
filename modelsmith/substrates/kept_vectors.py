"""Vectors that were computed before, by what they are of: ``cache/vectors.db``, where no commit reaches.

A batch is embedded when the firewall judges it and again when its certificate is made; a batch of thousands takes
minutes. The file is never the truth: `verify --full` computes anew, an entry that is not whole is not there, and a
damaged file is begun anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelsmith.schema.embedding import EmbeddingModel
from modelsmith.substrates.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE: Final = "vectors.db"
BUSY_SECONDS: Final = 30.0
_AT_ONCE: Final = 500
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL, seal BLOB NOT NULL)"


class KeptVectors:
    """An `Embedder` that asks another, opened at the first text that is not known yet. Each text is asked once."""

    def __init__(self, model: EmbeddingModel, open_: Callable[[], Embedder], folder: Path | None) -> None:
        """``folder``: where vectors are kept; None to keep none beyond this object."""
        self.model = model
        self._open = open_
        self._path = folder / FILE if folder else None
        self._opened: Embedder | None = None
        self._known: dict[bytes, bytes] = {}

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder`. Raises as the one that is opened."""
        import numpy as np

        keys = [self._key(text) for text in texts]
        if not keys:
            return np.zeros((0, 1), np.float32)
        wanted = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        self._known |= self._read([*wanted])
        new = {key: text for key, text in wanted.items() if key not in self._known}
        if new:
            self._opened = self._opened or self._open()
            rows = np.ascontiguousarray(self._opened.vectors([*new.values()]), dtype="<f4")
            made = {key: row.tobytes() for key, row in zip(new, rows, strict=True)}
            self._known |= made
            self._write(made)
        return np.frombuffer(b"".join(self._known[key] for key in keys), "<f4").reshape(len(keys), -1)

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.model.identity}\0{text}".encode("utf-8", "replace")).digest()

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}

        def read(database: sqlite3.Connection) -> None:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                asked = f"SELECT key, value, seal FROM vectors WHERE key IN ({marks})"  # noqa: S608
                found.update(
                    (key, value) for key, value, seal in database.execute(asked, some) if seal == _seal(key, value)
                )

        if self._path and self._path.exists():
            self._use(read)
        return found if len({len(value) for value in found.values()}) <= 1 else {}

    def _write(self, made: Mapping[bytes, bytes]) -> None:
        def write(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            rows = [(key, value, _seal(key, value)) for key, value in made.items()]
            database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")

        self._use(write)

    def _use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute(_SCHEMA)
                work(database)
        except (OSError, sqlite3.OperationalError):
            return
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _seal(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(b"modelsmith vector\0" + key + value).digest()
