"""Settings and fixtures of the whole suite."""

from pathlib import Path

import pytest
from hypothesis import settings
from tiny import write_tiny_model

settings.register_profile("modelsmith", deadline=None)
settings.load_profile("modelsmith")
"""Examples have no time limit of their own: a busy machine is no failure."""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of a few thousand weights with a real tokenizer, on disk."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder)
    return folder
