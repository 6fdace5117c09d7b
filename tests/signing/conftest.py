from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from modelsmith.signing.keys import create_signing_key, create_ssh_key


class SshPair(NamedTuple):
    path: Path
    public: str


class SigningPair(NamedTuple):
    path: Path
    pem: bytes


@pytest.fixture(scope="session")
def alice(tmp_path_factory: pytest.TempPathFactory) -> SshPair:
    path = tmp_path_factory.mktemp("ssh") / "alice"
    return SshPair(path, create_ssh_key(path, "alice@desk"))


@pytest.fixture(scope="session")
def bob(tmp_path_factory: pytest.TempPathFactory) -> SshPair:
    path = tmp_path_factory.mktemp("ssh") / "bob"
    return SshPair(path, create_ssh_key(path, "bob@desk"))


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> SigningPair:
    path = tmp_path_factory.mktemp("ec") / "harness.pem"
    return SigningPair(path, create_signing_key(path))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> SigningPair:
    path = tmp_path_factory.mktemp("ec") / "stranger.pem"
    return SigningPair(path, create_signing_key(path))
