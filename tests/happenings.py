"""Events without a loop, in a clone without a forge: for whoever hears of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from receivers import Receiver

from modelsmith.delivery import delivering
from modelsmith.ledger.ledger import ledger_of
from modelsmith.repository.workspace import Workspace
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


def allow(folder: Path, network: str) -> None:
    """Let webhooks of the clone go to a network."""
    subprocess.run(["git", "config", "modelsmith.webhook-allow", network], cwd=folder, check=True)


def append(workspace: Workspace, *numbers: int) -> list[str]:
    """Have happenings noted; their ids."""
    ledger_of(workspace).append(*map(happening, numbers))
    return [happening(number).identity for number in numbers]


@pytest.fixture
def telling(plain_clone: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A clone that sends webhooks to receivers on this machine too, and looks for events often."""
    allow(plain_clone, "127.0.0.0/8")
    monkeypatch.setattr(delivering, "LOOK_EVERY", 0.05)
    return Workspace.find(plain_clone)


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    """Makes receivers, and closes them."""
    receivers: list[Receiver] = []

    def make(*answers: int, **how: object) -> Receiver:
        receivers.append(Receiver(*answers, **how))
        return receivers[-1]

    yield make
    for receiver in receivers:
        receiver.close()
