from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from modelsmith.artifacts.seal import seal
from modelsmith.signing.keys import create_signing_key


class SigningPair(NamedTuple):
    path: Path
    pem: bytes


class Sealed(NamedTuple):
    folder: Path
    artifact: str


def fill(folder: Path, weights: bytes = b"w" * 100_000) -> Path:
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "tiny", "r": 16}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer.model").write_bytes(b"\x00\x01")
    (folder / "merges.txt").write_text("a b\n")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "additional_chat_templates" / "tool.jinja").write_text("{{ tools }}")
    (folder / "base.json").write_text("{}")
    (folder / "README.md").write_text("# card\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "artifact")


@pytest.fixture
def sealed(folder: Path) -> Sealed:
    return Sealed(folder, seal(folder))


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> SigningPair:
    path = tmp_path_factory.mktemp("ec") / "harness.pem"
    return SigningPair(path, create_signing_key(path))
