"""The figures of a training, told to a tracker of the user's own while it runs.

The tracker's library runs in a process of its own (`training.tracker`) that gets one line for each step. Whatever
becomes of it, training goes on: what is wrong is said once, and nothing waits for it longer than `END_GRACE`.

What is told is numbers, and names that governed files give: no prompt, answer, path, address or key.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from modelsmith.fleet import start
from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.children import start_apart
from modelsmith.schema.cluster import Cluster, TrackerName
from modelsmith.training.job import Heartbeat, TrainJob

TRACKER: Final = "modelsmith.training.tracker"
"""Module that tells the tracker."""
TRACKER_LOG: Final = "tracker.log"
"""What the tracker's library printed, in the job's folder."""
END_GRACE: Final = 20.0
"""Seconds that the tracker has for what it has not taken yet, once training has ended."""
PLACE_OF_MLFLOW: Final = "MLFLOW_TRACKING_URI"
_ENDED: Final = 2.0
"""Seconds that a process which listens no more has to be gone."""
ABSENT, NOWHERE, FAILED = 3, 4, 5
"""Exit status of the process: its library is not installed; nobody said where the tracker is; it failed."""


class TrackedRun(Frozen):
    """The first line: what is tracked, and where it belongs."""

    to: TrackerName
    project: str
    name: str
    identity: Digest
    """Of the job: the same job goes on in the same run of the tracker."""
    settings: dict[str, str | int | float]


class TrackerLine(Frozen):
    """A further line: the figures of one step, or how it ended."""

    step: int = 0
    figures: dict[str, float] = {}
    ended: Literal["done", "failed"] | None = None


def tracked_run(cluster: Cluster, job: TrainJob, name: str) -> TrackedRun | None:
    """What a cluster's tracker is told of a job; None where its file names none. ``name`` is the stage's."""
    if cluster.tracking is None:
        return None
    identity, training = job.identity(), job.training
    return TrackedRun(
        to=cluster.tracking.to,
        project=cluster.tracking.project or cluster.cluster,
        name=f"{cluster.cluster} {name or training.method} {identity.removeprefix('sha256:')[:8]}",
        identity=identity,
        settings={
            "cluster": cluster.cluster,
            "base_model": cluster.base_model.name,
            "method": training.method,
            "seed": training.seed,
            "steps": training.steps,
            "batch_size": training.batch_size,
            "learning_rate": training.learning_rate,
            "schedule": training.schedule,
            "lora_rank": training.lora.rank,
            "lora_alpha": training.lora.alpha,
            "rows": job.rows,
        },
    )


def figures_of(beat: Heartbeat) -> dict[str, float]:
    """The numbers of a step, by name."""
    figures: dict[str, float | None] = {"loss": beat.loss, "accuracy": beat.accuracy, "margin": beat.margin}
    if beat.measures:
        figures |= beat.measures.model_dump()
    return {name: value for name, value in figures.items() if value is not None}


class Tracker:
    """Tells one run, from its first step on, so that a job that is adopted tells nothing; without a run, nothing."""

    def __init__(
        self, folder: Path, run: TrackedRun | None, say: Callable[[str], None], grace: float = END_GRACE
    ) -> None:
        """``folder`` is the job's; ``say`` takes the one sentence about what is wrong, if anything is."""
        self._folder, self._run, self._say, self._grace = folder, run, say, grace
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, beat: Heartbeat) -> None:
        """Tell the figures of a step. Never waits for the tracker, and never fails."""
        if self._run is None:
            return
        if self._process is None and not self._started(self._run):
            return
        self._write(TrackerLine(step=beat.step, figures=figures_of(beat)))

    def end(self, sound: bool) -> None:
        """Tell how training ended, and wait for the tracker to take the rest, but not for long."""
        if self._process is None:
            return
        self._write(TrackerLine(ended="done" if sound else "failed"))
        if self._process is None:
            return
        process = self._process
        with suppress(OSError):
            assert process.stdin
            process.stdin.close()
        try:
            status = process.wait(self._grace)
        except subprocess.TimeoutExpired:
            self._give_up(f"did not take the last figures within {self._grace:g} seconds")
            return
        except BaseException:
            self._kill()
            raise
        if status:
            self._give_up(self._reason(process, status))
        self._process = self._run = None

    def _started(self, run: TrackedRun) -> bool:
        try:
            with (self._folder / TRACKER_LOG).open("ab") as log:
                self._process = start_apart(
                    [sys.executable, "-P", start.__file__, TRACKER, str(self._grace)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=self._folder,
                    env={name: value for name, value in os.environ.items() if not name.startswith("MODELSMITH_")},
                )
        except OSError as error:
            self._give_up(f"could not be started ({type(error).__name__})")
            return False
        assert self._process.stdin
        os.set_blocking(self._process.stdin.fileno(), False)
        self._write(run)
        return self._process is not None

    def _write(self, line: Frozen) -> None:
        process = self._process
        assert process
        assert process.stdin
        try:
            os.write(process.stdin.fileno(), line.model_dump_json().encode() + b"\n")
        except BlockingIOError:
            self._give_up("takes no more figures")
        except OSError:
            try:
                self._give_up(self._reason(process, process.wait(_ENDED)))
            except subprocess.TimeoutExpired:
                self._give_up("takes no more figures")

    def _reason(self, process: subprocess.Popen[bytes], status: int) -> str:
        assert self._run
        if status == ABSENT:
            return f"is not installed: pip install 'modelsmith[{self._run.to}]'"
        assert process.stdout
        output = process.stdout.read(200).decode("ascii", "replace").strip()
        if status == NOWHERE:
            return f"has no place to go: set {output}"
        return f"failed ({output or f'status {status}'}); {TRACKER_LOG} in the job's folder says more"

    def _give_up(self, why: str) -> None:
        """Say it once, and never try again."""
        assert self._run
        self._say(f"the tracker {self._run.to} {why}; training is not touched by it")
        self._kill()

    def _kill(self) -> None:
        process, self._process, self._run = self._process, None, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
