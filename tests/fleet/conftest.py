"""Hosts behind a real sshd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sshd import Sshd, Ways


@pytest.fixture
def ways(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    made = Ways(tmp_path_factory.mktemp("ssh"), monkeypatch)
    yield made
    made.close()


@pytest.fixture
def host(ways: Ways) -> Sshd:
    return ways.host()
