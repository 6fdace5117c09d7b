"""The lock of a clone: held for a block, by one process or thread at a time, and free afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "clone")], check=True)
    return Workspace(tmp_path / "clone", tmp_path / "home")


def test_a_lock_is_free_after_its_block_and_held_within(workspace):
    with (lock := workspace.lock("x")):
        assert workspace.is_locked("x")
        with pytest.raises(InfrastructureFailure) as second, workspace.lock("x"):
            pytest.fail("two hold it")
        assert second.value.code == "busy"
    assert lock is not None
    assert not workspace.is_locked("x")


def test_a_lock_is_free_after_a_failure_in_its_block(workspace):
    lock = workspace.lock("x")
    with pytest.raises(OSError, match="no disk"), lock:
        raise OSError("no disk")
    assert not workspace.is_locked("x")
    with workspace.lock("x"):
        assert workspace.is_locked("x")
