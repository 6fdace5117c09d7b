"""The process that tells a tracker: the run on the first line of standard input, then a line for each step.

A step is told once, also where a training that was killed takes it again: which was the last one told stands beside
the job, and MLflow is asked itself.

It uses the tracker's own library, with nothing that the library would add by itself (names of machine, user and
program, code, versions, usage of the machine). Where the tracker is, and its key, are that library's own settings in
the environment. When standard input closes it takes the rest and ends, by force where that takes too long.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, Final

from filelock import FileLock
from pydantic import ValidationError
from typing_extensions import override

from modelsmith.fleet.folder import write_json
from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.cluster import TrackerName
from modelsmith.schema.plain_file import read_plain
from modelsmith.training.tracking import ABSENT, FAILED, NOWHERE, PLACE_OF_MLFLOW, TrackedRun, TrackerLine

AT_ONCE: Final = 50
"""Steps that are told together, where they have piled up."""
JOB_TAG: Final = "modelsmith.job"
LAST_TOLD: Final = Path("tracked.json")
"""File in the working directory, which is the job's folder."""


class LastTracked(Frozen):
    """``tracked.json`` beside the job: how far its tracker was told."""

    to: TrackerName | None = None
    identity: Digest | None = None
    step: int = 0


class Library(ABC):
    """A tracker's library, with one run of it open."""

    last: int = 0
    """The last step that the tracker says it has; 0 where it cannot be asked."""

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None: ...

    @abstractmethod
    def tell(self, steps: Sequence[TrackerLine]) -> None:
        """Take the figures of steps."""

    @abstractmethod
    def end(self, sound: bool) -> None:
        """Close the run at the tracker."""


class NowhereError(Exception):
    """Nobody said where the tracker is; the message names the setting."""


class Mlflow(Library):
    """By its client: what starts a run for a script would name the script, its user and its commit."""

    def __init__(self, run: TrackedRun) -> None:
        if not os.environ.get(PLACE_OF_MLFLOW):
            raise NowhereError(PLACE_OF_MLFLOW)
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        experiment_found = self._client.get_experiment_by_name(run.project)
        experiment = experiment_found.experiment_id if experiment_found else self._client.create_experiment(run.project)
        before = self._client.search_runs([experiment], f"tags.`{JOB_TAG}` = '{run.identity}'", max_results=1)
        if before:
            self._id = before[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            self.last = max((point.step for point in self._client.get_metric_history(self._id, "loss")), default=0)
            return
        self._id = self._client.create_run(experiment, tags={JOB_TAG: run.identity}, run_name=run.name).info.run_id
        self._client.log_batch(self._id, params=[Param(name, str(value)) for name, value in run.settings.items()])

    @override
    def tell(self, steps: Sequence[TrackerLine]) -> None:
        now = int(time.time() * 1000)
        figures = [self._metric(name, value, now, step.step) for step in steps for name, value in step.figures.items()]
        self._client.log_batch(self._id, metrics=figures)

    @override
    def end(self, sound: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if sound else "FAILED")


class Trackio(Library):
    """It tells of its own failures by warnings only."""

    def __init__(self, run: TrackedRun) -> None:
        os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
        self._failed: list[str] = []
        warnings.showwarning = lambda message, *_: self._heard(str(message))
        import trackio

        self._run = trackio.init(
            project=run.project, name=run.name, config=dict(run.settings), resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    @override
    def tell(self, steps: Sequence[TrackerLine]) -> None:
        for step in steps:
            self._run.log(dict(step.figures), step=step.step)
        self._check()

    @override
    def end(self, sound: bool) -> None:
        self._run.finish()
        self._check()

    def _heard(self, message: str) -> None:
        if message.startswith("trackio"):
            self._failed.append(message)

    def _check(self) -> None:
        if self._failed:
            raise RuntimeError("\n".join(self._failed))


class Wandb(Library):
    """With everything off that it would find out about the machine."""

    def __init__(self, run: TrackedRun) -> None:
        os.environ |= {"WANDB_ERROR_REPORTING": "false"}
        import wandb

        self._run = wandb.init(
            project=run.project,
            id=run.identity.removeprefix("sha256:")[:16],
            name=run.name,
            config=dict(run.settings),
            resume="allow",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, save_code=False, host="", program="",
                x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True, x_save_requirements=False,
            ),
        )  # fmt: skip

    @override
    def tell(self, steps: Sequence[TrackerLine]) -> None:
        for step in steps:
            self._run.log(dict(step.figures), step=step.step)

    @override
    def end(self, sound: bool) -> None:
        self._run.finish(exit_code=0 if sound else 1)


LIBRARIES: Final[dict[TrackerName, type[Library]]] = {"mlflow": Mlflow, "trackio": Trackio, "wandb": Wandb}
"""What opens a run, by the name of the tracker, which is also the name of its library."""


def main(stream: BinaryIO, answer: int, grace: float) -> int:
    """Tell what comes on the stream; why it failed goes, in a word, to the file descriptor ``answer``."""
    lines: SimpleQueue[bytes | None] = SimpleQueue()
    over = threading.Event()
    threading.Thread(target=_read, args=(stream, lines, grace, over), daemon=True).start()
    try:
        first = lines.get()
        if first is None:
            return 0
        run = TrackedRun.model_validate_json(first)
        if importlib.util.find_spec(run.to) is None:
            return ABSENT
        with FileLock(LAST_TOLD.with_suffix(".lock"), timeout=grace + 5):
            _follow(run, LIBRARIES[run.to](run), lines)
    except NowhereError as error:
        os.write(answer, str(error).encode())
        return NOWHERE
    except Exception as error:
        traceback.print_exc()
        os.write(answer, type(error).__name__.encode("ascii", "replace"))
        return FAILED
    finally:
        over.set()
    return 0


def _follow(run: TrackedRun, library: Library, lines: SimpleQueue[bytes | None]) -> None:
    """Tell what comes, each step once, until no more comes."""
    key = LastTracked(to=run.to, identity=run.identity)
    before = _last_tracked()
    last = max(library.last, before.step if before.model_copy(update={"step": 0}) == key else 0)
    sound = False
    while steps := _waiting(lines):
        sound = sound or any(step.ended == "done" for step in steps)
        figures = {step.step: step for step in steps if step.figures and step.step > last}
        if figures:
            library.tell(list(figures.values()))
            last = max(figures)
            write_json(LAST_TOLD, key.model_copy(update={"step": last}))
    library.end(sound)


def _last_tracked() -> LastTracked:
    try:
        return LastTracked.model_validate_json(read_plain(LAST_TOLD))
    except (OSError, ValidationError):
        return LastTracked()


def _read(stream: BinaryIO, lines: SimpleQueue[bytes | None], grace: float, over: threading.Event) -> None:
    """Take lines as they come, so that who writes them never waits; at their end, see that this process ends too.

    Its whole group ends with it, which is its own: a library may have started processes, and `start_apart` began it.
    """
    for line in stream:
        lines.put(line)
    lines.put(None)
    if not over.wait(grace + 5):
        os.killpg(os.getpid(), signal.SIGKILL)


def _waiting(lines: SimpleQueue[bytes | None]) -> list[TrackerLine]:
    """Lines that have come by now, at least one; nothing when no more comes."""
    records: list[TrackerLine] = []
    line = lines.get()
    while line is not None:
        records.append(TrackerLine.model_validate_json(line))
        if len(records) == AT_ONCE:
            break
        try:
            line = lines.get_nowait()
        except Empty:
            break
    if line is None and records:
        lines.put(None)
    return records


if __name__ == "__main__":
    said = os.dup(1)
    os.dup2(2, 1)
    code = main(sys.stdin.buffer, said, float(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)
