"""Files of SQLite that several processes open at once: who comes while a new one is being made waits for it."""

import sqlite3
import threading
import time
from contextlib import closing

import pytest

from modelsmith.fleet.job_records import Records
from modelsmith.ledger.store import connect
from modelsmith.live.store import Store
from modelsmith.schema import wal
from modelsmith.substrates.kept_bytes import KeptBytes


def keeps(path):
    store = KeptBytes(path, "answer")
    store.keep({b"key": b"value"})
    assert store.find([b"key"]) == {b"key": b"value"}


OPENED = {
    "jobs": lambda path: Records(path).begin("none", 1),
    "ledger": lambda path: connect(path).close(),
    "live": lambda path: Store(path).close(),
    "kept": keeps,
}


@pytest.mark.parametrize("what", OPENED)
def test_a_new_file_that_another_process_is_making_is_waited_for(what, tmp_path, monkeypatch):
    waits = threading.Event()
    failed = []

    def opening():
        try:
            OPENED[what](tmp_path / "new.sqlite")
        except Exception as error:
            failed.append(error)
            waits.set()

    monkeypatch.setattr(wal.time, "sleep", lambda seconds: (waits.set(), threading.Event().wait(seconds)))
    with closing(sqlite3.connect(tmp_path / "new.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opens = threading.Thread(target=opening)
        opens.start()
        assert waits.wait(60)
        other.execute("COMMIT")
    opens.join(60)
    assert not opens.is_alive()
    assert not failed


def test_a_file_that_is_held_too_long_is_an_error(tmp_path):
    with closing(sqlite3.connect(tmp_path / "new.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(tmp_path / "new.sqlite", timeout=0)) as mine:
            began = time.monotonic()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                wal.write_ahead(mine, 0.05)
            assert time.monotonic() - began >= 0.05
