"""Settings and fixtures of the whole suite."""

from pathlib import Path

import pytest
from hypothesis import settings
from machine import keep_bytecode, prefer_ram_disk
from shared import built_once
from tiny import write_tiny_model

prefer_ram_disk()
keep_bytecode()
settings.register_profile("modelsmith", deadline=None)
settings.load_profile("modelsmith")
"""Examples have no time limit of their own: a busy machine is no failure."""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of a few thousand weights with a real tokenizer, on disk."""
    return built_once(tmp_path_factory, "tiny-model", write_tiny_model)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the real model take longest and begin first, so that no worker waits for one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("model") is None)
