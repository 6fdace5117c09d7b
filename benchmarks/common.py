"""What the benchmarks share: timing of processes and functions, facts about the machine, tables and result files."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "benchmarks" / ".work"
"""Scratch that survives between runs; not in git."""


class Spent(NamedTuple):
    """Seconds on the clock and of processor time, of one measurement."""

    wall: float
    cpu: float


def spend(
    command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, stdin: IO[bytes] | int | None = None
) -> Spent:
    """Run a process to its end, its output discarded.

    Raises:
        RuntimeError: it ended with another status than zero.
    """
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=stdin, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            words = errors.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{command[0]} ended with status {process.returncode}: {words}")
    return Spent(wall, usage.ru_utime + usage.ru_stime)


def timed(call: Callable[[], object]) -> Spent:
    """Run a function of this process, all threads and children counted."""
    before, begin = os.times(), time.perf_counter()
    call()
    wall, after = time.perf_counter() - begin, os.times()
    return Spent(wall, sum(after[:4]) - sum(before[:4]))


def alternate(subjects: Mapping[str, Callable[[], Spent]], repeats: int) -> dict[str, list[Spent]]:
    """Measure each subject in turn, ``repeats`` times over, so that what disturbs the machine disturbs all alike."""
    measured: dict[str, list[Spent]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, call in subjects.items():
            measured[name].append(call())
    return measured


def summary(runs: Sequence[Spent]) -> dict[str, Any]:
    """Medians and spread of the measurements of one subject, in seconds."""
    walls = [run.wall for run in runs]
    return {
        "median": round(statistics.median(walls), 4),
        "least": round(min(walls), 4),
        "most": round(max(walls), 4),
        "median_cpu": round(statistics.median(run.cpu for run in runs), 4),
        "runs": [round(wall, 4) for wall in walls],
    }


def ratio(ours: Sequence[Spent], bare: Sequence[Spent]) -> dict[str, float]:
    """Ours by the bare baseline: of the medians on the clock and of processor time."""
    return {
        name: round(
            statistics.median(getattr(run, name) for run in ours)
            / statistics.median(getattr(run, name) for run in bare),
            3,
        )
        for name in Spent._fields
    }


def machine(*libraries: str) -> dict[str, Any]:
    """Date, processor and versions; neither host name nor path."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in libraries}},
    }


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns in plain text: the first to the left, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def save(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def modelsmith_command() -> list[str]:
    """The installed ``modelsmith`` beside this interpreter."""
    script = Path(sys.executable).parent / "modelsmith"
    return [str(script)] if script.exists() else [sys.executable, "-m", "modelsmith"]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
