"""The door's log: what cannot be written is said once, and holds up nothing."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest

from modelsmith.door.journal import Journal


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/full", path)])
def test_a_log_that_cannot_be_written_is_said_once_until_it_can(tmp_path, make):
    path, messages = tmp_path / "logs" / "door.jsonl", []
    path.parent.mkdir()
    make(path)
    journal = Journal(path, messages.append)
    for number in range(3):
        journal._write([{"at": datetime.now(UTC), "what": "answered", "number": number}])
    assert len(messages) == 1
    assert messages[0].startswith(f"NOT LOGGED: {path}: ")
    (os.rmdir if path.is_dir() else os.unlink)(path)
    journal.note("answered", number=4)
    journal.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [4]
    path.unlink()
    make(path)
    journal._write([{"at": datetime.now(UTC), "what": "answered"}])
    assert len(messages) == 2, "the next time is another one"
