"""vLLM as tests need it: the real one, or what stands in for it (`substrates/fake_vllm.py`) and starts in no time."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.substrates.vllm.environment import find_python

FAKE = Path(__file__).parent / "substrates" / "fake_vllm.py"


def need_vllm() -> None:
    """Skips where vLLM is not at hand, unless it must be."""
    try:
        find_python()
    except InfrastructureFailure as error:
        if os.environ.get("MODELSMITH_REQUIRE_TOOLS"):
            pytest.fail(f"{error.message} {error.mend}")
        pytest.skip(f"{error.message} {error.mend}")


def put_fake(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Puts the stand-in where vLLM's Python is looked for; returns the folder of its notes."""
    python, notes = folder / "python", folder / "notes"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    python.chmod(0o755)
    notes.mkdir()
    patch.setenv("MODELSMITH_VLLM", str(python))
    patch.setenv("FAKE_FOLDER", str(notes))
    patch.setenv("FAKE_VLLM", "serve")
    return notes


def has_begun(notes: Path) -> bool:
    """Whether the stand-in's server and engine are there."""
    try:
        return (notes / "processes").read_text().endswith("\n")
    except FileNotFoundError:
        return False


def has_ended(notes: Path) -> bool:
    """Whether the stand-in's server and engine have ended; they have a minute for it."""
    numbers = [int(number) for number in (notes / "processes").read_text().split()]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(n) and psutil.Process(n).status() != psutil.STATUS_ZOMBIE for n in numbers):
            return True
        time.sleep(0.05)
    return False
