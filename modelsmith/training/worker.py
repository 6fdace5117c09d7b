"""The worker of a training job: an executor starts it with the job's folder and that of the base model on its host.

Where a judge with pinned weights rewards answers, the folder of these is the third. The worker refuses inputs that are
not as the job names them, trains by the job's method, and leaves ``adapter/`` and ``result.json``, or ``error.json``.
Killed at any moment, the same command goes on from the last intact checkpoint and ends in the same adapter. When
standard input is a pipe that closes, it saves a checkpoint and ends with status 75.

``--doors FOLDER`` at the end is where front doors of that host say how busy they are: the worker waits for them by the
budget in the job's folder.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from modelsmith.fleet.doors import DOORS_WORD
from modelsmith.fleet.folder import ERROR_FILE, write_json
from modelsmith.fleet.worker import STOPPED, alone, follow_lifeline
from modelsmith.schema.training import Method, Stage
from modelsmith.training import ranks
from modelsmith.training.failures import StoppedError, as_worker_error
from modelsmith.training.job import QUANTISES, finished, read_job

METHODS: dict[Method, str] = {
    "sft": "modelsmith.training.sft",
    "dpo": "modelsmith.training.dpo",
    "grpo": "modelsmith.training.grpo",
}
"""Module of each training method: its ``trainer`` is a `training.run.Build`."""
UNUSED = ("boto3", "scipy", "sklearn")
"""What the libraries of a training import wherever it is installed, and no training uses: see `leave_out_unused`."""


def begin(words: list[str], stop: threading.Event) -> int:
    """What the command line says, done in a process of its own; the exit status of `main`."""
    doors = None
    if words[-2:-1] == [DOORS_WORD]:
        doors, words = Path(words[-1]), words[:-2]
    folder, base, *judge = map(Path, words)
    return main(folder, base, stop, judge[0] if judge else None, doors, leave_out_unused)


def main(
    folder: Path,
    base: Path,
    stop: threading.Event,
    judge: Path | None = None,
    doors: Path | None = None,
    prepare: Callable[[Stage], None] = lambda training: None,
) -> int:
    """Exit status: 0 trained, 75 stopped with a checkpoint, 1 failed (``error.json`` says why).

    ``prepare`` is called with the job's settings before libraries are imported.
    """
    try:
        with _alone(folder):
            ranks.join()
            file = read_job(folder, base, judge)
            if finished(folder, file.identity) is not None:  # by a worker that this one has waited for
                return 0
            prepare(file.job.training)
            method, run = load(file.job.training.method)
            run.run(folder, file, base, stop, method.trainer, judge, doors)
    except StoppedError:
        return STOPPED
    except Exception as error:
        _tell(error, folder)
        return 1
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder for this training alone: the first rank waits for it, and the others wait for the first."""
    if not ranks.is_first():
        yield
        return
    with alone(folder):
        (folder / ERROR_FILE).unlink(missing_ok=True)
        yield


def _tell(error: Exception, folder: Path) -> None:
    """Say why in ``error.json`` and the log, as far as the disk takes it.

    Of several processes the one that fails first says it; the others fail by losing it, after that.
    """
    failure = as_worker_error(folder, error)
    with suppress(OSError):
        if ranks.count() == 1 or not (folder / ERROR_FILE).exists():
            write_json(folder / ERROR_FILE, failure)
    with suppress(OSError):
        traceback.print_exc()


@cache
def load(method: Method) -> tuple[Any, Any]:
    """The modules of the method and of `training.run`, whose libraries take seconds to import."""
    gc.disable()  # what these imports make stays: looking for garbage among it takes a fifth of their time
    try:
        from modelsmith.substrates.quiet import quiet

        quiet()
        modules = importlib.import_module(METHODS[method]), importlib.import_module("modelsmith.training.run")
        gc.freeze()
        return modules
    finally:
        gc.enable()


def leave_out_unused(training: Stage) -> None:
    """Let the libraries find none of what this training does not use: their imports take a quarter less time.

    For a process that does nothing else. What was imported before stays.
    """
    for name in UNUSED if training.load_in_4bit else (*UNUSED, QUANTISES):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def _one_device() -> None:
    """See the first GPU alone: a trainer takes all that it sees, and would multiply the batch by their number."""
    if ranks.count() == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


if __name__ == "__main__":
    _one_device()
    warnings.simplefilter("ignore")
    asked = threading.Event()
    follow_lifeline(asked)
    status = begin(sys.argv[1:], asked)
    ranks.leave(status)
    sys.exit(status)
