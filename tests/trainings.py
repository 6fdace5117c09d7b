"""Trainings as tests ask for them: with the worker in a thread of this process, as a fork, or really started."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safetensors.torch import load_file
from warm_workers import STOPS_AFTER, Warm

from modelsmith.artifacts.seal import seal
from modelsmith.fleet.executor import Beats, Executor, LocalExecutor, Submitted
from modelsmith.fleet.folder import HEARTBEAT_FILE, is_whole, lines_since
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Dpo, Lora, Sft, Stage
from modelsmith.schema.training_row import PreferencePair, TrainingRow
from modelsmith.substrates.base_models import listing_digest
from modelsmith.training import supervisor, worker
from modelsmith.training.job import Heartbeat, Inputs, TrainJob
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import WORKER, TrainOutcome


@dataclass(frozen=True)
class Case:
    """A training as a test asks for it: where its inputs lie, and its settings."""

    model: Path
    rows: Path
    training: Stage
    parent: Path | None = None
    system: str = "Name the cause."
    rubric: Rubric | None = None

    def settings(self, **changes: Any) -> Case:
        return replace(self, training=self.training.model_copy(update=changes))


def train(
    folder: Path,
    case: Case,
    run_by: Callable[[Path], Executor],
    progress: Callable[[Heartbeat], None],
    **more: Any,
) -> TrainOutcome:
    """Train the case by an executor on the machine where its base model lies."""
    job = TrainJob(
        base=listing_digest(case.model),
        parent=file_digest(case.parent / "SHA256SUMS") if case.parent else None,
        rows=file_digest(case.rows),
        system=case.system,
        training=case.training,
        rubric=case.rubric,
    )
    return supervisor.train(folder, job, Inputs(case.rows, case.parent), run_by(case.model), progress, **more)


class Thread:
    """An executor that runs the worker in a thread of this process."""

    def __init__(self, doors: Path | None = None) -> None:
        self.started, self._doors = 0, doors

    def __call__(self, *places: Path) -> Thread:
        self._places = places
        return self

    def submit(self, folder: Path) -> Submitted:
        self.started += 1
        return _ThreadJob(folder, self._doors, *self._places)


class _ThreadJob:
    def __init__(self, folder: Path, doors: Path | None, base: Path, judge: Path | None = None) -> None:
        self._folder, self._asked = folder, threading.Event()
        self._status: list[int] = []
        beats_file = folder / HEARTBEAT_FILE
        self.since = beats_file.stat().st_size if beats_file.exists() else 0
        self._thread = threading.Thread(
            target=lambda: self._status.append(worker.main(folder, base, self._asked, judge, doors))
        )
        self._thread.start()

    def beats(self, since: int, seconds: float) -> Beats:
        self._thread.join(seconds)
        status = None if self._thread.is_alive() else self._status[0]
        return Beats(*lines_since(self._folder / HEARTBEAT_FILE, since), status)

    def fetch(self) -> bool:
        return is_whole(self._folder)

    def stop(self, grace: float) -> None:
        self._asked.set()
        self._thread.join()


class Watched:
    """An executor that remembers the processes that it started: forks, or as ``kind`` starts them.

    The first fork stops itself after step ``stops_after``, so that it has not ended when somebody wants to kill it.
    """

    def __init__(self, kind: type[LocalExecutor] = Warm, stops_after: int | None = None) -> None:
        self.started: list[Any] = []
        self._kind, self._stops_after = kind, stops_after

    def __call__(self, base: Path) -> Watched:
        self._real = self._kind(WORKER, base)
        return self

    def submit(self, folder: Path) -> Submitted:
        stops = {STOPS_AFTER: str(self._stops_after)} if self._stops_after and not self.started else {}
        with patch.dict(os.environ, stops):
            running = self._real.submit(folder)
        self.started.append(running)
        return running

    @property
    def pids(self) -> list[int]:
        return [running._process.pid for running in self.started]


def once_at(step: int, action: Callable[[], None]) -> Callable[[Heartbeat], None]:
    """A progress function that acts at the first heartbeat from this step on."""
    reached: list[int] = []

    def progress(beat: Heartbeat) -> None:
        if beat.step >= step and not reached:
            reached.append(beat.step)
            action()

    return progress


def same_weights(first: Path, other: Path) -> bool:
    ours, right = (load_file(folder / "adapter_model.safetensors") for folder in (first, other))
    return ours.keys() == right.keys() and all(bool((ours[k] == right[k]).all()) for k in ours)


def sealed(adapter: Path, folder: Path) -> Path:
    """An artifact of the adapter, as the store keeps it."""
    shutil.copytree(adapter, folder)
    (folder / "README.md").write_text("The cause.")
    seal(folder)
    return folder


COMMON: dict[str, Any] = {
    "steps": 8, "batch_size": 4, "learning_rate": 0.01, "checkpoint_every": 2, "lora": Lora(rank=2, alpha=4),
}  # fmt: skip
STAGES: dict[str, Stage] = {"sft": Sft(**COMMON), "dpo": Dpo(method="dpo", **COMMON)}


def small_case(method: str, model: Path, path: Path) -> Case:
    """A short training of eight rows by ``sft`` or ``dpo``."""
    prompts = [(Message(role="user", content=f"Note {i}: {'late ' * (i % 3)}"),) for i in range(8)]
    if method == "sft":
        write_rows(
            path,
            [
                TrainingRow(messages=messages, answer="x" * (1 + i), generator="g", template="t", points=("cause",))
                for i, messages in enumerate(prompts)
            ],
        )
    else:
        rubric = "sha256:" + "0" * 64
        write_rows(
            path,
            [
                PreferencePair(
                    messages=messages, chosen="x" * (1 + i), rejected="no", source="generator", points=(), rubric=rubric
                )
                for i, messages in enumerate(prompts)
            ],
        )
    return Case(model, path, STAGES[method])
