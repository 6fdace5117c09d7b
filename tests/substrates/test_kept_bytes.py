"""What took long to make is kept in a file that is never the truth: whatever befalls it, no call fails."""

import sqlite3
from contextlib import closing

import pytest

from modelsmith.substrates.kept_bytes import KeptBytes

ENTRIES = {f"key {number}".encode(): f"value {number}".encode() for number in range(1_201)}


@pytest.fixture
def kept_bytes(tmp_path) -> KeptBytes:
    return KeptBytes(tmp_path / "folder" / "vectors.db", "vector")


def test_what_is_kept_is_found_by_another_process_too(kept_bytes):
    assert kept_bytes.find(ENTRIES) == {}
    kept_bytes.keep({})
    assert not kept_bytes.path.exists()
    kept_bytes.keep(ENTRIES)
    assert KeptBytes(kept_bytes.path, "vector").find([*ENTRIES, b"other"]) == ENTRIES


def test_the_later_entry_under_a_key_stands(kept_bytes):
    kept_bytes.keep({b"key": b"first"})
    kept_bytes.keep({b"key": b"second"})
    assert kept_bytes.find([b"key"]) == {b"key": b"second"}


@pytest.mark.parametrize(
    "change", ["value = 'text'", "value = x'00'", "seal = x'00'", "key = x'01'", "key = 'one', value = 'text'"]
)
def test_an_entry_that_was_changed_is_passed_over(kept_bytes, change):
    kept_bytes.keep({b"one": b"1", b"two": b"2"})
    with closing(sqlite3.connect(kept_bytes.path)) as database:
        database.execute(f"UPDATE vectors SET {change} WHERE key = ?", (b"one",))
        database.commit()
    assert kept_bytes.find([b"one", b"two", b"\x01"]) == {b"two": b"2"}


def test_an_entry_of_another_kind_of_file_is_not_one_here(kept_bytes):
    other = KeptBytes(kept_bytes.path, "answer")
    other.keep({b"key": b"value"})
    kept_bytes.keep({})
    assert kept_bytes.find([b"key"]) == {}
    with closing(sqlite3.connect(kept_bytes.path)) as database:
        database.execute("INSERT INTO vectors SELECT * FROM answers")
        database.commit()
    assert kept_bytes.find([b"key"]) == {}


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one", b"\0" * 4096])
def test_a_damaged_file_is_begun_anew(kept_bytes, content):
    kept_bytes.keep(ENTRIES)
    for companion in kept_bytes.path.parent.iterdir():
        companion.unlink()
    kept_bytes.path.write_bytes(content)
    kept_bytes.find(ENTRIES)
    kept_bytes.keep(ENTRIES)
    assert kept_bytes.find(ENTRIES) in (ENTRIES, {})
    kept_bytes.keep(ENTRIES)
    assert kept_bytes.find(ENTRIES) == ENTRIES


def test_a_place_that_cannot_be_written_keeps_nothing_and_fails_nobody(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = KeptBytes(tmp_path / "file" / "answers.db", "answer")
    store.keep({b"key": b"value"})
    assert store.find([b"key"]) == {}
    folder = KeptBytes(tmp_path, "answer")
    folder.keep({b"key": b"value"})
    assert folder.find([b"key"]) == {}
