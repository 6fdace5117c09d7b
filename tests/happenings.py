"""Events without a loop, in a clone without a forge: for whoever hears of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from modelsmith.schema.canonical import digest
from modelsmith.schema.events import TrainingComplete


def happening(number: int) -> TrainingComplete:
    """An event that differs from those of other numbers."""
    return TrainingComplete(
        cluster="rtb-pricing",
        run_id=digest("run"),
        artefact_uri=f"store:{digest(number)}",
        adapter_sha=digest(f"weights {number}"),
    )


def make_plain_clone(folder: Path) -> Path:
    """A repository that is a promotion repository by its policy's name, and holds nothing else."""
    policy = folder / ".github" / "governance" / "policy.yaml"
    policy.parent.mkdir(parents=True)
    policy.write_text("{}\n")
    author = ("-c", "user.name=dana", "-c", "user.email=dana@example.org")
    for words in (("init", "-q", "-b", "main"), ("add", "."), (*author, "commit", "-q", "-m", "Begin")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.fixture
def plain_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a clone, with a home of its own beside it."""
    monkeypatch.setenv("MODELSMITH_HOME", str(tmp_path / "home"))
    return make_plain_clone(tmp_path / "clone")
